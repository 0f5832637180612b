"""Inputs that broke other tools, by the address of the public report: read here, or told of."""

import io
import json
import struct
import tarfile
import zlib

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from shiftproof import Classes, Encoder, Preprocess, bench
from shiftproof.corruptions import CORRUPTIONS, corrupt
from shiftproof.data import export_corrupted, find_dataset, open_data, open_detection_data
from shiftproof.data.images.folder import read_class_map
from shiftproof.embed import embed
from shiftproof.errors import BrokenFileError, InputError, ModelError
from shiftproof.io.images import read_image, read_size
from shiftproof.models import load_classifier, load_encoder
from support.detection_trees import (
    CITYSCAPES_JSON,
    VOC_OBJECT,
    VOC_XML,
    cityscapes_tree,
    coco_tree,
    photograph,
    voc_tree,
    yolo_tree,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def encode(kind, **options):
    target = io.BytesIO()
    Image.fromarray(PIXELS).save(target, kind, **options)
    return target.getvalue()


def encoder():
    plain = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))
    return Encoder(lambda inputs: inputs.mean(axis=(2, 3)), plain)


def embed_rows(source, out):
    found = embed(encoder(), source, out, workers=0)
    tables = sorted((out / "metadata").glob("*.parquet"))
    return found.broken, [row for table in tables for row in pq.read_table(table).to_pylist()]


# ---------------------------------------------------------------- pictures

EXIF = {
    "no TIFF": b"Exif\0\0garbage!",
    "empty": b"Exif\0\0",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01",
    "offset beyond the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "orientation as text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0a\0\0\0\0\0\0\0",
    "orientation 9": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", EXIF.values(), ids=EXIF)
def test_broken_exif_is_no_orientation(tmp_path, kind, exif):  # huggingface/datasets#7668
    path = tmp_path / "a"
    path.write_bytes(encode(kind, exif=exif))
    assert read_image(path).shape == PIXELS.shape
    assert read_size(path) == (12, 8)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_broken_xmp_is_no_orientation(tmp_path, kind):  # huggingface/datasets#7668
    path = tmp_path / "a"
    path.write_bytes(encode(kind, xmp=b'<x tiff:Orientation="\xff\xfe'))
    assert read_image(path).shape == PIXELS.shape
    assert read_size(path) == (12, 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_undone_and_sized(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    path.write_bytes(encode(kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {})))
    # By the EXIF standard: where row 0 and column 0 of what is stored lie in what is seen.
    turned = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: PIXELS[::-1].transpose(1, 0, 2),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: PIXELS[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    found = read_image(path)
    assert found.shape == turned.shape
    assert read_size(path) == (turned.shape[1], turned.shape[0])
    if kind != "JPEG":
        np.testing.assert_array_equal(found, turned)


def chunk(kind, content, damage=0):
    check = (zlib.crc32(kind + content) ^ damage) & 0xFFFFFFFF
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    ("kind", "content", "damage"),
    [(b"eXIf", b"MM", 1), (b"iTXt", b"XML:com.adobe.xmp", 1), (b"zTXt", b"", 1), (b"pHYs", b"", 0)],
)
def test_damaged_metadata_of_a_png_does_not_cost_it(tmp_path, kind, content, damage, place):
    # The PNG specification, 13.1: an error in an ancillary chunk need not end the reading.
    png = encode("PNG")
    at = 33 if place == "before" else len(png) - 12
    path = tmp_path / "a.png"
    path.write_bytes(png[:at] + chunk(kind, content, damage) + png[at:])
    np.testing.assert_array_equal(read_image(path), PIXELS)
    assert read_size(path) == (12, 8)


def test_damaged_pixels_of_a_png_are_still_told(tmp_path):
    png = bytearray(encode("PNG"))
    png[60] ^= 255
    with pytest.raises(BrokenFileError, match="damaged image"):
        read_image(bytes(png))


def test_a_truncated_picture_is_named_and_the_others_go_on(tmp_path):  # pytorch/vision#138
    folder = tmp_path / "photos"
    folder.mkdir()
    jpeg = encode("JPEG", quality=95)
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 3 // 4])
    (folder / "good.jpg").write_bytes(jpeg)
    broken, rows = embed_rows(folder, tmp_path / "out")
    assert [row["image_path"] for row in rows] == ["good.jpg"]
    assert list(broken) == ["cut.jpg"]
    assert "damaged image" in broken["cut.jpg"]
    copied = copy(folder, tmp_path / "copy")
    assert (copied.written, list(copied.broken)) == (1, ["cut.jpg"])


def copy(source, out):
    return export_corrupted(
        source, out, corruptions=["contrast"], severities=[1], workers=0, show_progress=False
    )


# ---------------------------------------------------------------- tars


def tar_of(path, *names, content=b"text"):
    picture = encode("PNG")
    with tarfile.open(path, "w") as target:
        for place, name in enumerate(names):
            data = picture if name.endswith(".png") else content + str(place).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return path


def test_members_of_a_sample_may_lie_apart(tmp_path):  # ray-project/ray#44068
    path = tar_of(tmp_path / "a.tar", "1.png", "2.png", "1.txt", "2.txt")
    broken, rows = embed_rows(path, tmp_path / "out")
    assert not broken
    assert [(row["key"], row["caption"]) for row in rows] == [("1", "text2"), ("2", "text3")]


def test_a_dot_in_a_folder_of_a_tar_is_none_of_the_key(tmp_path):  # webdataset's base_plus_ext
    path = tar_of(tmp_path / "a.tar", "train.v1/0001.png", "train.v1/0001.txt")
    broken, rows = embed_rows(path, tmp_path / "out")
    assert not broken
    assert [(row["key"], row["caption"]) for row in rows] == [("train.v1/0001", "text1")]
    assert copy(path, tmp_path / "copy").written == 1


def test_a_member_that_is_there_twice_is_told(tmp_path):  # webdataset/webdataset#157
    path = tar_of(tmp_path / "a.tar", "1.png", "1.png", "2.png")
    broken, rows = embed_rows(path, tmp_path / "out")
    assert broken == {"a.tar/1.png (2)": "a.tar/1.png (2): it occurs twice."}
    assert [row["key"] for row in rows] == ["1", "2"]
    assert list(copy(path, tmp_path / "copy").broken) == ["a.tar/1.png (2)"]


def test_two_dots_in_a_name_in_a_tar_are_told(tmp_path):  # huggingface/datasets#7144
    path = tar_of(tmp_path / "a.tar", "22.05.png", "23.png")
    broken, rows = embed_rows(path, tmp_path / "out")
    assert [row["key"] for row in rows] == ["23"]
    assert "'05.png' of the sample '22'" in broken["a.tar/22.05.png"]


def test_parquet_in_place_of_tars_is_told(tmp_path):  # rom1504/clip-retrieval#393
    folder = tmp_path / "shards"
    folder.mkdir()
    pq.write_table(pa.table({"url": ["a"], "caption": ["b"]}), folder / "00000.parquet")
    [part] = find_dataset(folder).parts
    assert "shards has no column of images (found url, caption)." in str(part.problem)
    for place in (folder, folder / "00000.parquet"):
        with pytest.raises(InputError, match=r"has no column of images \(found url, caption\)\."):
            embed_rows(place, tmp_path / "out")
    (folder / "00000.parquet").rename(tmp_path / "00000.tar")
    with pytest.raises(InputError, match=r"00000\.tar: cannot be read as a tar"):
        embed_rows(tmp_path / "00000.tar", tmp_path / "out")


# ---------------------------------------------------------------- COCO


def coco(root, change=None):
    """Write the tree of COCO, with its JSON changed; return the JSON's path."""
    value = coco_tree(root)
    if change is not None:
        change(value)
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(value))
    return path


def on_each(part, **changes):
    """Return what changes each record of a part: None takes a field away."""

    def change(value):
        for record in value[part]:
            for field, made in changes.items():
                if made is None:
                    record.pop(field, None)
                else:
                    record[field] = made(record[field])

    return change


def from_zero(value):
    value["categories"] = [{"id": 17, "name": "cat"}, {"id": 0, "name": "car"}]
    value["annotations"][1]["category_id"] = 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (on_each("annotations", segmentation=lambda _: []), None),  # voxel51/fiftyone#1523
        (on_each("images", id=str), "an id as text"),  # dbolya/yolact#156
        (on_each("annotations", bbox=lambda box: [str(x) for x in box]), "a number as text"),
        (on_each("annotations", area=None), None),
        (from_zero, None),
    ],
)
def test_coco_of_other_hands_has_the_same_boxes(tmp_path, change, reason):
    plain, changed = (
        open_detection_data(coco(tmp_path / name, how))
        for name, how in (("a", None), ("b", change))
    )
    assert changed.classes.names == plain.classes.names
    for name, expected in plain.objects.items():
        np.testing.assert_array_equal(changed.objects[name].boxes, expected.boxes)
        np.testing.assert_array_equal(changed.objects[name].labels, expected.labels)
    assert {fault.reason for fault in changed.faults} == ({reason} if reason else set())
    assert all(fault.kept for fault in changed.faults)


@pytest.mark.parametrize("box", [[], ["a", "b", "c", "d"], [1, 2, None, 4], None])
def test_coco_annotation_without_a_box_is_told_as_it_stands(tmp_path, box):
    change = on_each("annotations", bbox=lambda _: box, segmentation=None)
    data = open_detection_data(coco(tmp_path, change))
    assert [len(found.boxes) for found in data.objects.values()] == [0, 0, 0]
    what = "no bbox and no segmentation; expected one of them" if box is None else f"bbox {box!r}"
    assert str(data.faults[0]).endswith(
        f"annotations[0] with the id 5: not four finite numbers ({what}); left out."
    )


def test_coco_without_categories_is_told(tmp_path):  # facebookresearch/detectron2#946
    path = coco(tmp_path, lambda value: value.pop("categories"))
    for source in (tmp_path, path):
        with pytest.raises(InputError, match=r"val2017\.json.*it has no list of categories"):
            open_detection_data(source)
    with pytest.raises(InputError, match="expected a list of categories, got none"):
        bench.score(results(tmp_path, FOUND), path, out=tmp_path / "run", workers=0)


FOUND = [
    {"image_id": 900, "category_id": 17, "bbox": [1.5, 2.25, 10.1, 20.3], "score": 0.9},
    {"image_id": 12, "category_id": 17, "bbox": [30, 30, 5, 6], "score": 0.8},
]


def results(root, value, change_text=str.encode):
    folder = root / "predictions"
    (folder / "fog").mkdir(parents=True)
    for name in ("clean.json", "fog/3.json"):
        (folder / name).write_bytes(change_text(json.dumps(value, indent=1)))
    return folder


def score(root, value, change=None, **options):
    return bench.score(
        results(root, value, **options),
        coco(root, change),
        out=root / "run",
        workers=0,
        show_progress=False,
    )


def test_only_crowds_are_nothing_to_find(tmp_path):  # feiyuhuahuo/Yolact_minimal#45
    crowds = on_each("annotations", iscrowd=lambda _: 1)
    assert len(open_detection_data(coco(tmp_path / "a", crowds)).faults) == 0
    with pytest.raises(InputError, match="has no object to find in 3 images"):
        score(tmp_path / "b", FOUND, crowds)


def test_results_in_a_dict_are_told(tmp_path):  # cocodataset/cocoapi#401
    with pytest.raises(InputError, match=r"clean\.json: expected COCO results, a list of objects"):
        score(tmp_path, {"annotations": FOUND})


@pytest.mark.parametrize("times", [1, 10])
def test_results_of_other_images_are_told(tmp_path, times):  # cocodataset/cocoapi#497
    others = [{**record, "image_id": 777} for record in FOUND] * times
    with pytest.raises(InputError, match=r"clean\.json\[0\]: image_id: 777 is no image"):
        score(tmp_path, others)


def test_a_result_of_another_image_is_listed(tmp_path):  # cocodataset/cocoapi#497
    run = score(tmp_path, [*FOUND, {**FOUND[0], "image_id": 777}])
    listed = json.loads((run.path / "run.json").read_text())["result_faults"]["detector"]["clean"]
    assert listed["faults"] == {"of no image": 1}
    assert run.scores.models[0].clean.numbers["AP"] == 1


# ---------------------------------------------------------------- Pascal VOC

BOX = VOC_OBJECT.format(3, 4, 13, 24, name="dog", difficult=0)


def voc(root, objects, filename="000005.jpg", size=None):
    base = voc_tree(root)
    text = VOC_XML.format(name=filename, objects=objects)
    if size is not None:
        text = text.replace("<width>48</width><height>40</height>", size)
    (base / "Annotations" / "000005.xml").write_text(text)
    data = open_detection_data(root)
    ((name, objects),) = [item for item in data.objects.items() if "000005" in item[0]]
    faults = [str(fault).removeprefix(f"{name}, ") for fault in data.faults]
    return objects.boxes.tolist(), faults


@pytest.mark.parametrize(
    "options",
    [
        {"size": "<width>0</width><height>0</height>"},
        {"size": ""},
        {"filename": "other.png"},
        {"filename": "000005"},
        {"filename": ""},
    ],
)
def test_voc_of_a_wrong_size_or_name_is_read(
    tmp_path, options
):  # HCIILAB/SCUT-HEAD-Dataset-Release#4
    assert voc(tmp_path, BOX, **options) == ([[3, 4, 13, 24]], [])


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        # datitran/raccoon_dataset#74: a reader that takes the children by their order
        ("<ymax>24</ymax><xmax>13</xmax><ymin>4</ymin><xmin>3</xmin>", [3, 4, 13, 24]),
        ("<xmin>3.5</xmin><ymin>4.25</ymin><xmax>13.0</xmax><ymax> 24.75 </ymax>",
         [3.5, 4.25, 13, 24.75]),
    ],
)  # fmt: skip
def test_voc_corners_are_read_by_their_names(tmp_path, corners, expected):
    item = f"<object><name>dog</name><bndbox>{corners}</bndbox></object>"
    assert voc(tmp_path, item) == ([expected], [])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("<object/>", "of no class (no name); left out."),
        (BOX.replace("<name>dog</name>", ""), "of no class (no name); left out."),
        ("<object><name>dog</name><polygon><pt><x>3</x><y>4</y></pt></polygon></object>",
         "not four finite numbers (no bndbox, and no x1, y1, x2, y2, … in its polygon); left out."),
        ("<object><name>dog</name></object>", "not four finite numbers (no bndbox); left out."),
        ("<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>x</xmax></bndbox>"
         "</object>",
         "not four finite numbers (xmin '1', ymin '2', xmax 'x', ymax None); left out."),
        (VOC_OBJECT.format(13, 4, 3, 24, name="dog", difficult=0),
         "negative size (x 13, y 4, width -10, height 20; image 48 x 40); left out."),
    ],
)  # fmt: skip
def test_voc_objects_that_cannot_be_used_are_told_and_the_others_read(tmp_path, item, message):
    assert voc(tmp_path, item + BOX) == ([[3, 4, 13, 24]], [f"object 1: {message}"])


@pytest.mark.parametrize(
    "points",
    ["<x1>3</x1><y1>4</y1><x2>13</x2><y2>24</y2>",
     "<x1>3</x1><y1>24</y1><x2>13</x2><y2>14</y2><x3>7</x3><y3>4</y3>"],
)  # fmt: skip
def test_voc_polygon_alone_gives_its_box(tmp_path, points):  # ssaru/convert2Yolo#16
    item = f"<object><name>dog</name><polygon>{points}</polygon></object>"
    assert voc(tmp_path, item) == ([[3, 4, 13, 24]], [])


def test_voc_box_without_width_is_told(tmp_path):  # HCIILAB/SCUT-HEAD-Dataset-Release#4
    boxes, faults = voc(tmp_path, VOC_OBJECT.format(13, 4, 13, 24, name="dog", difficult=0))
    assert boxes == [[13, 4, 13, 24]]
    assert faults == ["object 1: zero area (x 13, y 4, width 0, height 20; image 48 x 40); kept."]


# ---------------------------------------------------------------- YOLO


def yolo(root, labels, listed=None):
    config = yolo_tree(root)
    (root / "labels" / "val" / "a.txt").write_text(labels)
    if listed is not None:
        (root / "val.txt").write_text(listed)
    return open_detection_data(config, split="val" if listed is None else "test")


@pytest.mark.parametrize(
    "listed",
    [
        "./images/val/a.jpg\n./images/val/c.jpg\n",
        "images/val/a.jpg\r\n.\\images\\val\\c.jpg\r\n",
        "\ufeff./images/val/a.jpg\n\nimages/val/c.jpg",
    ],
)
def test_relative_paths_in_a_list_are_below_it(tmp_path, listed):  # ultralytics/yolov5#6351
    data = yolo(tmp_path, "1 0.5 0.5 0.25 0.5\n", listed)
    assert list(data.objects) == ["images/val/a.jpg", "images/val/c.jpg"]
    assert data.objects["images/val/a.jpg"].boxes.tolist() == [[18, 10, 30, 30]]


def test_a_column_of_confidences_is_told(tmp_path):  # as Ultralytics: "labels require 5 columns"
    data = yolo(tmp_path, "1 0.5 0.5 0.25 0.5 0.93\n")
    assert len(data.objects["images/val/a.jpg"].boxes) == 0
    assert [str(fault) for fault in data.faults] == [
        "images/val/a.jpg, line 1 of labels/val/a.txt: not four finite numbers (5 numbers after the "
        "class, expected 4, or the points of an outline); left out."
    ]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [("", []), (" \n\n", []), ("1.0 0.5 0.5 0.25 0.5\r\n0.0 0.5 0.5 0.25 0.5\r\n", [1, 0])],
)
def test_empty_labels_and_classes_as_floats_are_read(tmp_path, labels, classes):
    data = yolo(tmp_path, labels)
    assert data.objects["images/val/a.jpg"].labels.tolist() == classes
    assert not data.faults


# ---------------------------------------------------------------- Cityscapes

WHOLE = [[0, 0], [47, 0], [47, 39], [0, 39]]


@pytest.mark.parametrize(
    ("item", "message"),
    [  # cityscapes-to-voc#2
        ({"label": "car"}, True),
        ({"label": "car", "polygon": []}, True),
        ({"label": "car", "polygon": WHOLE, "deleted": 1}, False),
        ({"label": "car", "deleted": 1}, False),
    ],
)
def test_cityscapes_objects_that_are_not_there(tmp_path, item, message):
    plain = open_detection_data(cityscapes_tree(tmp_path / "a"))
    root = cityscapes_tree(tmp_path / "b")
    value = {**CITYSCAPES_JSON, "objects": [*CITYSCAPES_JSON["objects"], item]}
    next(root.rglob("*_polygons.json")).write_text(json.dumps(value))
    data = open_detection_data(root)
    for name, expected in plain.objects.items():
        np.testing.assert_array_equal(data.objects[name].boxes, expected.boxes)
    more = {str(fault) for fault in data.faults} - {str(fault) for fault in plain.faults}
    assert ["objects[7]" in fault for fault in more] == [True] * message


# ---------------------------------------------------------------- checkpoints

with torch.random.fork_rng():
    torch.manual_seed(0)
    NETWORK = timm.create_model("resnet10t", num_classes=7).eval()
STATE = NETWORK.state_dict()
BODY = {name: value for name, value in STATE.items() if not name.startswith("fc.")}


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def load(folder, content, loader):
    torch.save(content, folder / "checkpoint.pt")
    return loader(f"file:{folder / 'checkpoint.pt'}?arch=timm:resnet10t")


@pytest.mark.parametrize(
    "content",
    [
        {"arch": "resnet10t", "module": BODY, "is_pretrain": True},  # keyu-tian/SparK#58
        {"state_dict": under("module.encoder.", BODY)},  # facebookresearch/simsiam#8
        {"state_dict": under("encoder.", BODY) | {"predictor.0.weight": torch.ones(3, 3)}},
    ],
)
def test_features_are_refused_as_classes_and_taken_as_vectors(tmp_path, content):
    with pytest.raises(ModelError, match=r"checkpoint\.pt has no head for resnet10t"):
        load(tmp_path, content, load_classifier)
    found = load(tmp_path, content, load_encoder)
    height, width = found.preprocess.size
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    inputs = found.preprocess.normalize(images)
    with torch.no_grad():
        features = NETWORK.forward_features(torch.from_numpy(inputs))
        expected = NETWORK.forward_head(features, pre_logits=True).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.encode(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        under("model.module.", STATE),
        {"state_dict": under("module.model.module.", STATE)},
        {"model": {"module": STATE}},
        # mahmoodlab/CLAM#54: one part of the network alone was trained in parallel
        {name.replace("layer1.", "layer1.module."): value for name, value in STATE.items()},
        {
            f"module.{name}".replace("layer1.0.", "layer1.module.0.module."): value
            for name, value in STATE.items()
        },
    ],
)
def test_weights_that_were_wrapped_twice_are_found(tmp_path, content):
    classifier = load(tmp_path, content, load_classifier)
    height, width = classifier.preprocess.size
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = NETWORK(torch.from_numpy(classifier.preprocess.normalize(images))).numpy()
    np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-4)


def test_module_within_a_foreign_name_is_left_there(tmp_path):  # mahmoodlab/CLAM#54
    content = STATE | {"attention_net.module.0.weight": torch.ones(3, 3)}
    with pytest.raises(ModelError, match=r"not expected \(attention_net\.module\.0\.weight\)"):
        load(tmp_path, content, load_classifier)


def test_a_part_that_is_there_wrapped_and_bare_is_told(tmp_path):
    content = STATE | {"layer1.module.0.conv1.weight": STATE["layer1.0.conv1.weight"] + 1}
    with pytest.raises(ModelError, match=r"not expected \(layer1\.module\.0\.conv1\.weight\)"):
        load(tmp_path, content, load_classifier)


# ---------------------------------------------------------------- ONNX

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def graph(path, *endings):
    """Write a graph for one image at a time: the mean colour by a matrix, and what comes behind."""
    steps = [("GlobalAveragePool", ["image"]), ("Flatten", ["0"]), ("MatMul", ["1", "weight"])]
    steps += [(ending, [str(place)]) for place, ending in enumerate(endings, start=2)]
    nodes = [helper.make_node(kind, takes, [str(at)]) for at, (kind, takes) in enumerate(steps)]
    onnx.save(
        helper.make_model(
            helper.make_graph(
                nodes,
                "mean",
                [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 24])],
                [helper.make_tensor_value_info(str(len(steps) - 1), TensorProto.FLOAT, [1, 4])],
                [numpy_helper.from_array(WEIGHT, "weight")],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=9,
        ),
        path,
    )
    return path


@pytest.mark.parametrize("softmaxes", [0, 1, 2])  # roboflow/inference#201
def test_a_batch_of_one_runs_and_one_softmax_is_taken_off(tmp_path, softmaxes):
    classifier = load_classifier(f"onnx:{graph(tmp_path / 'a.onnx', *['Softmax'] * softmaxes)}")
    images = np.random.default_rng(1).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    expected = classifier.preprocess.normalize(images).mean(axis=(2, 3)) @ WEIGHT
    for _ in range(max(softmaxes, 1)):
        expected = softmax(expected)
    np.testing.assert_allclose(softmax(classifier.predict(images)), expected, atol=1e-5)


# ---------------------------------------------------------------- corruptions


@pytest.mark.parametrize(
    "shape", [(128, 128, 3), (32, 32, 3), (32, 32), (1, 40, 3), (40, 1), (1, 1, 3)]
)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_small_images_take_every_corruption(name, shape):  # LIBERO-plus#7
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for severity in range(1, 6):
        found = corrupt(image, name, severity=severity, seed=0)
        assert (found.shape, found.dtype) == (shape, np.uint8)


# ---------------------------------------------------------------- text files of Windows


def windows(text):
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


def test_results_of_windows_are_read(tmp_path):
    run = score(tmp_path, FOUND, change_text=windows)
    assert run.scores.models[0].clean.numbers["AP"] == 1


def test_tables_and_class_maps_of_windows_are_read(tmp_path):
    photograph(tmp_path / "a.png")
    (tmp_path / "a.csv").write_bytes(windows("path,label\na.png,dog\n"))
    data = open_data(tmp_path / "a.csv", classes=Classes(("cat", "dog")))
    assert [(sample.id, sample.label) for sample in data.samples] == [("a.png", 1)]
    (tmp_path / "map.csv").write_bytes(windows("folder,class\nn01,cat\nn02,dog\n"))
    assert read_class_map(tmp_path / "map.csv") == {"n01": "cat", "n02": "dog"}
