"""Small hand-written trees in the published layouts: two photographs, a few boxes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 40)
"""Width and height."""


def photograph(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Write a picture of soft noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def coco_tree(root: Path, **more) -> dict:
    """Write images in val2017 and their JSON in annotations; ids are sparse, the last image has no box."""
    for place, name in enumerate(("9.jpg", "sub/12.jpg", "30.png")):
        photograph(root / "val2017" / name, place)
    value = {
        "info": {"description": "kept"},
        "images": [
            {"id": 900, "file_name": "9.jpg", "width": 48, "height": 40, "license": 3},
            {"id": 12, "file_name": "sub/12.jpg", "width": 48, "height": 40},
            {"id": 30, "file_name": "30.png", "width": 48, "height": 40},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 5, "image_id": 900, "category_id": 17, "bbox": [1.5, 2.25, 10.1, 20.3],
             "area": 77.5, "iscrowd": 0, "segmentation": [[1.5, 2.25, 11.6, 2.25, 11.6, 22.5]]},
            {"id": 6, "image_id": 12, "category_id": 3, "bbox": [0, 0, 48, 40], "area": 1920.0,
             "iscrowd": 1, "segmentation": {"size": [40, 48], "counts": [0, 1920]}},
            {"id": 7, "image_id": 12, "category_id": 17, "bbox": [30, 30, 5, 6], "area": 30.0,
             "iscrowd": 0, "segmentation": []},
        ],
        **more,
    }  # fmt: skip
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return value


VOC_XML = """<annotation>
	<folder>VOC2007</folder>
	<filename>{name}</filename>
	<size><width>48</width><height>40</height><depth>3</depth></size>
{objects}</annotation>
"""

VOC_OBJECT = """	<object>
		<name>{name}</name><difficult>{difficult}</difficult>
		<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
		<part><name>head</name>
			<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
	</object>
"""


def voc_tree(root: Path) -> Path:
    """Write VOCdevkit/VOC2007 with two images, a mask and two splits; return VOC2007."""
    base = root / "VOCdevkit" / "VOC2007"
    for place, (name, objects) in enumerate(
        {
            "000005": VOC_OBJECT.format(3, 4, 13, 24, name="dog", difficult=0)
            + VOC_OBJECT.format(1.5, 2, 47.5, 40, name="person", difficult=1),
            "000007": "",
        }.items()
    ):
        photograph(base / "JPEGImages" / f"{name}.jpg", place)
        path = base / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(VOC_XML.format(name=f"{name}.jpg", objects=objects))
    photograph(base / "SegmentationClass" / "000005.png", 9)
    lists = base / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("000005\n000007\n")
    (lists / "dog_train.txt").write_text("000005  1\n")
    return base


CITYSCAPES_JSON = {
    "imgHeight": 40,
    "imgWidth": 48,
    "objects": [
        {"label": "road", "polygon": [[0, 0], [47, 0], [47, 39], [0, 39]]},
        {"label": "car", "polygon": [[10, 10], [29, 10], [29, 19], [10, 19]]},
        {"label": "license plate", "polygon": [[12, 12], [15, 12], [15, 14], [12, 14]]},
        {"label": "cargroup", "polygon": [[0, 30], [9, 30], [9, 39], [0, 39]]},
        {"label": "person", "polygon": [[40, 0], [43, 0], [43, 3], [40, 3]]},
        {"label": "pole", "polygon": [[20, 0], [47, 0], [47, 39], [20, 39]]},
        {"label": "rider", "polygon": [[30, 30], [33, 30], [33, 35], [30, 35]], "deleted": 1},
    ],
}
"""The pole hides the right half of the car (columns 20 to 29) and all of the person."""


def cityscapes_tree(root: Path) -> Path:
    """Write one image of the split val, its polygons and its label map."""
    stem = "ulm_000000_000019"
    photograph(root / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png")
    folder = root / "gtFine" / "val" / "ulm"
    photograph(folder / f"{stem}_gtFine_labelIds.png", 7)
    (folder / f"{stem}_gtFine_polygons.json").write_text(json.dumps(CITYSCAPES_JSON))
    return root


def yolo_tree(root: Path, names: str = "[car, dog]", extra: str = "") -> Path:
    """Write images of the split val, labels of two of three, a list, and data.yaml; return its path."""
    for place, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        photograph(root / "images" / "val" / name, place)
    labels = root / "labels" / "val"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.5 0.5\n")
    (labels / "b.txt").write_text("0 0.0 0.0 0.5 0.0 0.5 0.5\n")
    (root / "val.txt").write_text("./images/val/a.jpg\n./images/val/c.jpg\n")
    config = root / "data.yaml"
    config.write_text(f"{extra}train: images/val\nval: images/val\ntest: val.txt\nnames: {names}\n")
    return config
