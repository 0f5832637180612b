"""Small datasets in the layouts of annotation tools; each split has its own gray."""

import json

from PIL import Image

from support.detection_trees import (
    VOC_OBJECT,
    VOC_XML,
)

LEVEL = {"train": 40, "val": 120, "valid": 120, "test": 200}


def picture(path, level, size=(48, 40)):
    """Write an image of one gray, which identifies its split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path, "PNG" if not path.suffix else None)
    return path


def coco_json(path, names, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {
        "images": [
            {"id": place, "file_name": name, "width": 48, "height": 40}
            for place, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": place, "image_id": place, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12,
             "iscrowd": 0}
            for place in range(1, len(names) + 1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        **more,
    }  # fmt: skip
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def roboflow_coco(root):
    for split in ("train", "valid", "test"):
        picture(root / split / "1.png", LEVEL[split])
        coco_json(root / split / "_annotations.coco.json", ["1.png"])
    return root


def voc_xml(path, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    box = VOC_OBJECT.format(3, 4, 13, 24, name="dog", difficult=0)
    path.write_text(VOC_XML.format(name=name, objects=box))


def roboflow_yolo(root):
    for split in ("train", "valid"):
        picture(root / split / "images" / "1.png", LEVEL[split])
        (root / split / "labels").mkdir()
        (root / split / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: [cat]\n"
    )
    return root
