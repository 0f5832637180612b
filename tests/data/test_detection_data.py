"""Datasets with boxes: five readers held against the layouts' own words, and every fault listed."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from shiftproof import Classes
from shiftproof.data import (
    VOC_CLASSES,
    CityscapesData,
    CocoData,
    DetectionData,
    ImageObjects,
    VocData,
    YoloData,
    open_detection_data,
)
from shiftproof.data.detection import boxes
from shiftproof.data.detection.cityscapes import find_visible_objects
from shiftproof.errors import BrokenFileError, InputError, MissingExtraError
from shiftproof.io.xml import parse_xml
from shiftproof.metrics import faults as kinds
from shiftproof.metrics.coco import read_objects
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

REAL = Path(__file__).parents[3] / "shared" / "data" / "voc100"


def reasons(data):
    return [(fault.reason, fault.kept) for fault in data.faults]


def named(data, key):
    found = data.objects[key]
    return [
        (data.classes.names[label], *box)
        for label, box in zip(found.labels, found.boxes.tolist(), strict=True)
    ]


# ---------------------------------------------------------------- COCO


def test_coco_is_what_pycocotools_reads(tmp_path, capsys):
    coco_tree(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    data = open_detection_data(tmp_path)
    assert isinstance(data, CocoData)
    assert [sample.id for sample in data.samples] == [
        "val2017/9.jpg", "val2017/sub/12.jpg", "val2017/30.png",
    ]  # fmt: skip
    assert data.classes.names == ("car", "cat")
    assert data.faults == ()
    theirs = COCO(str(path))
    truth = data.ground_truth()
    by_image = {image["id"]: image for image in truth["images"]}
    assert set(by_image) == set(theirs.getImgIds())
    for expected in theirs.dataset["annotations"]:
        ours = next(a for a in truth["annotations"] if a["bbox"] == expected["bbox"])
        for key in ("image_id", "category_id", "area", "iscrowd"):
            assert ours[key] == expected[key]
        assert ours.get("segmentation", []) == expected["segmentation"]
    assert truth["categories"] == sorted(theirs.dataset["categories"], key=lambda c: c["id"])
    np.testing.assert_array_equal(
        data.objects["val2017/9.jpg"].boxes, [[1.5, 2.25, 1.5 + 10.1, 2.25 + 20.3]]
    )
    assert len(data.objects["val2017/30.png"]) == 0
    assert [
        len(data.ground_truth(data.samples[:1])[part]) for part in ("images", "annotations")
    ] == [1, 1]
    capsys.readouterr()


def test_coco_ids_are_below_the_images_or_a_folder_above(tmp_path):
    coco_tree(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    plain = CocoData(tmp_path / "val2017", path)
    assert plain.samples[1].id == "sub/12.jpg"
    above = CocoData(tmp_path / "val2017", path, root=tmp_path)
    assert above.samples[1].id == "val2017/sub/12.jpg"
    np.testing.assert_array_equal(above.read(above.samples[1]), plain.read(plain.samples[1]))
    with pytest.raises(InputError, match="is not below"):
        CocoData(tmp_path / "val2017", path, root=tmp_path / "annotations")
    # Maps of pixels with the photographs' names do not stand for them.
    for name in ("9.jpg", "sub/12.jpg", "30.png"):
        photograph(tmp_path / "annotations" / "maps" / name)
    assert [s.id for s in open_detection_data(path).samples] == [s.id for s in above.samples]


BAD_BOXES = [
    ([1, 1, math.nan, 4], kinds.NOT_FINITE, False),
    ([1, 1, "x", 4], kinds.NOT_FINITE, False),
    ([1, 1, 4], kinds.NOT_FINITE, False),
    (None, kinds.NOT_FINITE, False),
    ([1, 1, math.inf, 4], kinds.NOT_FINITE, False),
    ([5, 5, -2, 4], kinds.NEGATIVE, True),  # a miss for pycocotools
    ([5, 5, 0, 4], kinds.NO_AREA, True),
    ([48, 5, 3, 4], kinds.OUTSIDE, True),
    ([5, -9, 3, 4], kinds.OUTSIDE, True),
    ([5, 5, 50, 4], kinds.BEYOND, True),
    ([-1.5, 5, 5, 4], kinds.BEYOND, True),
]


@pytest.mark.parametrize(("box", "reason", "kept"), BAD_BOXES)
def test_a_bad_box_is_listed_and_left_out_only_where_it_cannot_be_measured(
    tmp_path, box, reason, kept
):
    value = coco_tree(tmp_path)
    value["annotations"].append({"id": 8, "image_id": 30, "category_id": 3, "bbox": box})
    coco_tree(tmp_path, annotations=value["annotations"])
    data = open_detection_data(tmp_path)
    assert reasons(data) == [(reason, kept)]
    assert "val2017/30.png, annotations[3] with the id 8" in str(data.faults[0])
    assert len(data.objects["val2017/30.png"]) == kept
    assert data.settings()["faults"] == {reason: 1}
    assert data.settings()["left out"] == (not kept)
    if kept:
        assert data.ground_truth()["annotations"][-1]["bbox"] == box


def test_a_pixel_over_the_edge_is_no_fault(tmp_path):
    box = {"id": 8, "image_id": 30, "category_id": 3, "bbox": [-1, -1, 50, 42]}
    coco_tree(tmp_path, annotations=[box])
    assert open_detection_data(tmp_path).faults == ()


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"image_id": 31, "category_id": 3}, kinds.UNKNOWN_IMAGE),
        ({"category_id": 3}, kinds.UNKNOWN_IMAGE),
        ({"image_id": [1], "category_id": 3}, kinds.UNKNOWN_IMAGE),
        ({"image_id": 30, "category_id": 4}, kinds.UNKNOWN_CLASS),
        (7, "no object of a JSON"),
    ],
)
def test_an_annotation_of_nothing_is_listed(tmp_path, annotation, reason):
    coco_tree(tmp_path, annotations=[annotation])
    data = open_detection_data(tmp_path)
    assert reasons(data) == [(reason, False)]
    assert len(data.ground_truth()["annotations"]) == 0
    assert len(data) == 3


def test_an_image_of_another_size_or_missing_is_listed_and_kept(tmp_path):
    coco_tree(tmp_path)
    photograph(tmp_path / "val2017" / "9.jpg", size=(40, 48))
    (tmp_path / "val2017" / "30.png").unlink()
    data = open_detection_data(tmp_path)
    assert reasons(data) == [(boxes.OTHER_SIZE, True), (boxes.NO_FILE, True)]
    assert "40 x 48 pixels, annotated as 48 x 40" in str(data.faults[0])
    assert len(data) == 3
    with pytest.raises(BrokenFileError, match=r"val2017/30\.png: cannot be read"):
        data.read(data.samples[2])


def test_a_turned_photograph_has_the_size_in_which_it_is_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 40)).save(tmp_path / "a.jpg", exif=exif)
    assert boxes.read_image_sizes(tmp_path, ["a.jpg", "none.jpg"]) == [(40, 48), None]


def test_coco_without_area_crowd_or_size(tmp_path):
    coco_tree(
        tmp_path,
        images=[{"id": 900, "file_name": "9.jpg"}],
        annotations=[{"image_id": 900, "category_id": 3, "bbox": [1, 1, 4, 5]}],
    )
    data = open_detection_data(tmp_path)
    (annotation,) = data.ground_truth()["annotations"]
    assert (annotation["area"], annotation["iscrowd"]) == (20.0, 0)
    assert data.ground_truth()["images"][0] | {"id": 0} == {
        "id": 0, "file_name": "val2017/9.jpg", "width": 48, "height": 40,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"images": [{"id": 1, "file_name": "../9.jpg"}]}, r"got '\.\./9\.jpg', which leaves it"),
        ({"images": [{"id": 1, "file_name": "/etc/9.jpg"}]}, "which leaves it"),
        ({"images": [{"id": 1, "file_name": "C:\\9.jpg"}]}, "which leaves it"),
        ({"images": [{"id": 1}]}, r"none can be used \(first: .*with the id 1: no name"),
        ({"images": [{"file_name": "9.jpg"}]}, r"none can be used \(first: .*no id \(id None"),
        ({"images": [{"id": i, "file_name": "9.jpg"} for i in (1, 2)]}, "is listed for two images"),
        ({"images": []}, "expected images, but none can be used"),
        ({"categories": []}, "expected categories, but none can be used"),
        ({"categories": [{"id": None}]}, r"none can be used \(first: .*no id"),
        ({"categories": [{"id": "cat"}]}, "whole numbers as category ids"),
    ],
)
def test_coco_that_contradicts_itself_is_refused(tmp_path, more, message):
    coco_tree(tmp_path, annotations=[], **more)
    with pytest.raises(InputError, match=message):
        CocoData(tmp_path / "val2017", tmp_path / "annotations" / "instances_val2017.json")


ODD_ANNOTATIONS = [
    {"bbox": ["1", 1, 4, 4]}, {"bbox": [1, 1, "x", 4]}, {"bbox": []}, {"bbox": None},
    {"bbox": [5, 5, -2, 4]}, {"bbox": [5, 5, 0, 4]}, {"bbox": [math.nan, 5, 1, 4]},
    {"bbox": [50, 5, 1, 4]}, {"bbox": [5, 5, 60, 4]}, {"bbox": {"x": 1}}, {"bbox": [1e39, 1, 1, 1]},
    {"area": "16"}, {"area": "large"}, {"area": -5}, {"area": math.nan}, {"area": math.inf},
    {"area": None}, {"iscrowd": None}, {"iscrowd": 0.0}, {"iscrowd": 1.0}, {"iscrowd": "1"},
    {"iscrowd": 7}, {"iscrowd": True}, {"ignore": 1}, {"difficult": "yes"}, {"image_id": 30.0},
    {"image_id": "30"}, {"image_id": 31}, {"image_id": None}, {"image_id": [30]},
    {"image_id": 10**30}, {"category_id": 17.0}, {"category_id": 17.5}, {"category_id": "17"},
    {"category_id": -1}, {"category_id": "\ud800"}, {"id": 7}, {"id": "\ud800"},
    {"segmentation": [["a"]]}, {"segmentation": 3}, {"segmentation": [[math.nan] * 6]},
    {"segmentation": {"size": [40, math.inf], "counts": "\ud800"}},
]  # fmt: skip


@pytest.mark.parametrize("fields", ODD_ANNOTATIONS)
def test_one_file_is_the_same_objects_for_the_data_set_and_for_the_measures(tmp_path, fields):
    annotation = {"id": 8, "image_id": 30, "category_id": 3, "bbox": [1, 1, 4, 4], "iscrowd": 0}
    value = coco_tree(tmp_path)
    coco_tree(tmp_path, annotations=[*value["annotations"], {**annotation, **fields}])
    path = tmp_path / "annotations" / "instances_val2017.json"
    data, objects = open_detection_data(tmp_path), read_objects(path)
    again = read_objects(data.ground_truth())
    for column in ("image", "category", "boxes", "area", "crowd", "difficult"):
        mine, theirs = getattr(again, column), getattr(objects, column)
        order = np.lexsort((again.boxes[:, 0], again.image))
        other = np.lexsort((objects.boxes[:, 0], objects.image))
        np.testing.assert_array_equal(mine[order], theirs[other], err_msg=column)
    assert sorted(reasons(data)) == sorted((one.reason, one.kept) for one in objects.faults)
    plain = [{"iscrowd": 0.0}, {"iscrowd": 1.0}, {"iscrowd": True}, {"ignore": 1}, {"area": None},
             {"image_id": 30.0}, {"category_id": 17.0}, {"id": "\ud800"}]  # fmt: skip
    assert bool(data.faults) == (fields not in plain)


def test_a_record_that_is_wrong_does_not_end_the_file(tmp_path):
    value = coco_tree(tmp_path)
    images = [*value["images"], {"id": 900, "file_name": "9.jpg", "width": "48", "height": 40.0},
              {"id": 5}, {"file_name": "a.jpg"}, "b.jpg", {"id": 6, "file_name": "\ud800.jpg"},
              {"id": 7.0, "file_name": "sub/7.jpg"}]  # fmt: skip
    categories = [*value["categories"], {"id": 17, "name": "dog"}, {"id": 18}, {"name": "cow"},
                  {"id": 19, "name": "\ud800"}, {"id": 20, "name": None}]  # fmt: skip
    annotations = [*value["annotations"], {"image_id": 5, "category_id": 3, "bbox": [1, 1, 1, 1]}]
    coco_tree(tmp_path, images=images, categories=categories, annotations=annotations)
    data = open_detection_data(tmp_path)
    assert data.image_ids["val2017/9.jpg"] == 900
    assert data.image_ids["val2017/sub/7.jpg"] == 7
    assert data.classes.names == ("car", "dog", "18", "U+D800", "20")
    assert sum(map(len, data.objects.values())) == 3
    json.dumps(data.ground_truth(), ensure_ascii=False).encode()
    assert data.fault_counts() == {
        "an id that stands twice": 2, "a number as text": 1, "no id": 2, "no name": 3,
        "no image file": 2, "no object of a JSON": 1, "of no image": 1,
    }  # fmt: skip


def test_a_json_of_another_kind_is_refused(tmp_path):
    for text in ("[]", '{"images": []}', "3"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match="expected COCO annotations"):
            CocoData(tmp_path, tmp_path / "a.json")
        with pytest.raises(InputError, match="expected COCO annotations"):
            open_detection_data(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BrokenFileError, match="not valid JSON"):
        CocoData(tmp_path, tmp_path / "a.json")


# ---------------------------------------------------------------- Pascal VOC


def test_voc_as_its_xml_says(tmp_path):
    voc_tree(tmp_path)
    data = VocData(tmp_path / "VOCdevkit", "val")
    first, second = "VOC2007/JPEGImages/000005.jpg", "VOC2007/JPEGImages/000007.jpg"
    assert [sample.id for sample in data.samples] == [first, second]
    assert data.classes.names == VOC_CLASSES
    assert named(data, first) == [("dog", 3, 4, 13, 24), ("person", 1.5, 2, 47.5, 40)]
    assert data.objects[first].difficult.tolist() == [False, True]
    assert data.objects[first].areas.tolist() == [200, 46 * 38]
    assert named(data, second) == []
    assert data.faults == ()
    truth = data.ground_truth()
    assert [image["id"] for image in truth["images"]] == [1, 2]
    assert [a["category_id"] for a in truth["annotations"]] == [12, 15]
    assert [a["difficult"] for a in truth["annotations"]] == [0, 1]
    assert isinstance(open_detection_data(tmp_path), VocData)


def test_voc_splits(tmp_path):
    base = voc_tree(tmp_path)
    assert [s.id for s in VocData(base, "dog_train").samples] == ["JPEGImages/000005.jpg"]
    assert len(VocData(base)) == 2
    with pytest.raises(InputError, match=r"there are the splits dog_train, val"):
        VocData(base, "trian")
    with pytest.raises(InputError, match="which leaves it"):
        VocData(base, "../val")
    (base / "ImageSets" / "Main" / "evil.txt").write_text("../../000005\n")
    with pytest.raises(InputError, match="which leaves it"):
        VocData(base, "evil")


def test_voc_lists_what_is_wrong(tmp_path):
    base = voc_tree(tmp_path)
    bad = (
        VOC_OBJECT.format("", 4, 13, 24, name="dog", difficult=0)
        + VOC_OBJECT.format(13, 4, 3, 24, name="dog", difficult=0)
        + "<object><name>cat</name></object>"
    )
    (base / "Annotations" / "000005.xml").write_text(VOC_XML.format(name="", objects=bad))
    photograph(base / "JPEGImages" / "000008.JPG")
    photograph(base / "JPEGImages" / "000009.png")
    (base / "Annotations" / "000009.xml").write_text("<annotation>")
    (base / "Annotations" / "000010.xml").write_text("<annotation/>")
    data = VocData(base)
    assert [sample.id[-10:] for sample in data.samples] == ["000005.jpg", "000007.jpg"]
    assert reasons(data) == [
        (boxes.NO_ANNOTATIONS, False), (boxes.UNREADABLE, False), (kinds.UNKNOWN_IMAGE, False),
        (kinds.NOT_FINITE, False), (kinds.NEGATIVE, False), (kinds.NOT_FINITE, False),
    ]  # fmt: skip
    assert "000008.JPG" in str(data.faults[0])
    assert "000010.xml" in str(data.faults[2])


def test_voc_without_a_size_and_with_classes_of_its_own(tmp_path):
    base = voc_tree(tmp_path)
    text = "<annotation>" + VOC_OBJECT.format(3, 4, 13, 24, name="drone", difficult=0)
    (base / "Annotations" / "000005.xml").write_text(text + "</annotation>")
    data = VocData(base)
    assert data.classes.names == ("drone",)
    assert (data.objects["JPEGImages/000005.jpg"].width, data.objects["JPEGImages/000005.jpg"].height) == (
        48, 40,
    )  # fmt: skip
    other = VocData(base, classes=["bird"])
    assert reasons(other) == [(kinds.UNKNOWN_CLASS, False)]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>',
    ],
)
def test_xml_with_a_document_type_is_refused(text):
    with pytest.raises(BrokenFileError, match="declares a document type"):
        parse_xml(text.encode(), "a.xml")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"<a>\n <b></a>", "line 2, column 7: not valid XML .mismatched tag"),
        (b"<a>\n<b>\xc3\xbc \xe9</b></a>", "line 2, column 6: not valid XML in the encoding utf-8"),
        ("<a>\n\u00fc<b></a>".encode("utf-16"), "line 2, column 7: not valid XML"),
        (b"", "line 1, column 1: not valid XML .no element found"),
    ],
)
def test_xml_that_is_wrong_has_its_place(data, place):
    with pytest.raises(BrokenFileError, match=rf"^a\.xml, {place}"):
        parse_xml(data, "a.xml")


ENCODED = [
    ("gb2312", "gbk", "\u732b\u72d7"),
    ("GBK", "gbk", "\u732b\u9555"),
    ("GB18030", "gb18030", "\u732b"),
    ("Shift_JIS", "shift_jis", "\u732b"),
    ("EUC-JP", "euc_jp", "\u732b"),
    ("EUC-KR", "euc_kr", "\uace0\uc591\uc774"),
    ("big5", "big5", "\u8c93"),
    ("UTF-16", "utf-16", "\u732b"),
    ("utf-16", "utf-8", "\u732b"),
    ("UTF-16LE", "utf-16-le", "\u732b"),
    ("utf-8", "utf-8-sig", "\u732b"),
    ("ISO-8859-1", "latin-1", "b\u00eate"),
    ("windows-1252", "cp1252", "\u20ac b\u00eate"),
    ("windows-1251", "cp1251", "\u043a\u043e\u0442"),
    ("koi8-r", "koi8-r", "\u043a\u043e\u0442"),
    ("us-ascii", "ascii", "kitten"),
]


@pytest.mark.parametrize(("declared", "codec", "name"), ENCODED)
def test_voc_in_the_encodings_that_people_have(tmp_path, declared, codec, name):
    base = voc_tree(tmp_path)
    text = VOC_XML.format(name="", objects=VOC_OBJECT.format(3, 4, 13, 24, name=name, difficult=0))
    data = f'<?xml version="1.0" encoding="{declared}"?>\n{text}'.encode(codec)
    (base / "Annotations" / "000005.xml").write_bytes(data)
    data = VocData(base)
    assert data.classes.names == (name,)
    assert data.faults == ()


@pytest.mark.parametrize(
    "name",
    ["foo-8", "idna", "punycode", "rot13", "base64", "zlib", "hex", "unicode_escape", "undefined",
     "mbcs", "a" * 40],
)  # fmt: skip
def test_an_unknown_encoding_is_the_fault_of_its_file_alone(tmp_path, name):
    base = voc_tree(tmp_path)
    (base / "Annotations" / "000005.xml").write_text(
        f"<?xml version='1.0' encoding='{name}'?><annotation/>"
    )
    data = VocData(base)
    assert reasons(data) == [(boxes.UNREADABLE, False)]
    assert f"its encoding '{name}' is not known" in data.faults[0].detail
    assert len(data) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff\xfe", b"\xff\xfe<", b"<annotation>\xe9</annotation>", b"\x1f\x8b\x08",
     b'<?xml version="1.0" encoding="gbk"?><annotation>\x81</annotation>', b"<a/>",
     b'<?xml version="1.0" encoding="ascii"?><annotation>\xe9</annotation>'],
)  # fmt: skip
def test_bytes_that_are_no_annotations_are_the_fault_of_their_file(tmp_path, data):
    base = voc_tree(tmp_path)
    (base / "Annotations" / "000005.xml").write_bytes(data)
    assert reasons(VocData(base)) == [(boxes.UNREADABLE, False)]


@pytest.mark.parametrize(
    ("text", "difficult", "listed"),
    [
        ("0", False, False), ("1", True, False), ("2", True, True), ("1.0", True, True),
        ("True", True, True), ("true", True, True), (" 1 ", True, False), ("-1", True, True),
        ("false", False, True), ("0.0", False, True), ("", False, False), ("Unspecified", False, True),
    ],
)  # fmt: skip
def test_what_marks_an_object_of_voc_as_difficult(tmp_path, text, difficult, listed):
    """voc_eval takes int(text), and every number but 0 for true."""
    base = voc_tree(tmp_path)
    box = VOC_OBJECT.format(3, 4, 13, 24, name="dog", difficult=text)
    (base / "Annotations" / "000005.xml").write_text(VOC_XML.format(name="", objects=box))
    data = VocData(base)
    assert data.objects["JPEGImages/000005.jpg"].difficult.tolist() == [difficult]
    assert reasons(data) == [(kinds.ODD_FLAG, True)] * listed


def test_an_object_of_voc_without_a_name_is_no_class(tmp_path):
    base = voc_tree(tmp_path)
    box = VOC_OBJECT.format(3, 4, 13, 24, name=" ", difficult=0)
    box += "<object><bndbox/></object>" + VOC_OBJECT.format(3, 4, 9, 9, name="dog", difficult=0) * 2
    (base / "Annotations" / "000005.xml").write_text(VOC_XML.format(name="", objects=box))
    data = VocData(base)
    assert data.classes.names == VOC_CLASSES
    assert reasons(data) == [
        (kinds.UNKNOWN_CLASS, False), (kinds.UNKNOWN_CLASS, False), (kinds.TWICE, True),
    ]  # fmt: skip
    assert len(data.objects["JPEGImages/000005.jpg"]) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf000005\n000007\n", b"000005\r\n000007\r\n", b"000005.jpg\n000007.JPG\n",
        b"000005  1\n000007 -1\n", b"000005.jpg  0\r\n\r\n000007.jpg +1", b" 000005\t1 \n000007",
        b"000005\n000005\n000007\n",
    ],
)  # fmt: skip
def test_lists_of_voc_in_the_forms_that_people_have(tmp_path, data):
    base = voc_tree(tmp_path)
    (base / "ImageSets/Main/val.txt").write_bytes(data)
    data = VocData(base, "val")
    assert [sample.id[-10:] for sample in data.samples] == ["000005.jpg", "000007.jpg"]
    assert data.faults == ()


def test_names_in_a_list_of_voc_may_hold_spaces(tmp_path):
    base = voc_tree(tmp_path)
    for name in ("my cat", "my cat 1", "v1.2 new"):
        photograph(base / "JPEGImages" / f"{name}.jpg")
        (base / "Annotations" / f"{name}.xml").write_text(VOC_XML.format(name="", objects=""))
    path = base / "ImageSets/Main/val.txt"
    path.write_text("my cat\nmy cat 1\nv1.2 new.jpg\n")
    assert [Path(s.id).stem for s in VocData(base, "val").samples] == [
        "my cat",
        "my cat 1",
        "v1.2 new",
    ]
    path.write_text("my cat -1\nmy cat 1 1\nv1.2 new  0\n")
    assert [Path(s.id).stem for s in VocData(base, "val").samples] == [
        "my cat",
        "my cat 1",
        "v1.2 new",
    ]


def test_what_is_no_voc_is_refused(tmp_path):
    base = voc_tree(tmp_path)
    with pytest.raises(InputError, match="no folders JPEGImages and Annotations"):
        VocData(base / "JPEGImages")
    photograph(base / "JPEGImages" / "000005.png")
    with pytest.raises(InputError, match=r"000005\.jpg and 000005\.png share one annotation file"):
        VocData(base)
    (base / "JPEGImages" / "000005.png").unlink()
    (base.parent / "VOC2012" / "JPEGImages").mkdir(parents=True)
    (base.parent / "VOC2012" / "Annotations").mkdir()
    with pytest.raises(InputError, match=r"holds VOC2007, VOC2012; give one of them"):
        VocData(base.parent)


# ---------------------------------------------------------------- Cityscapes


def test_cityscapes_boxes_are_those_of_what_stays_visible(tmp_path):
    data = open_detection_data(cityscapes_tree(tmp_path))
    assert isinstance(data, CityscapesData)
    (sample,) = data.samples
    assert sample.id == "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
    # By hand: the car spans columns 10 to 29 and rows 10 to 19, the pole hides columns 20 and up.
    assert named(data, sample.id) == [("car", 10, 10, 20, 20), ("car", 0, 30, 10, 40)]
    found = data.objects[sample.id]
    assert found.areas.tolist() == [100, 100]
    assert found.crowd.tolist() == [False, True]
    assert reasons(data) == [(boxes.HIDDEN, False)]
    assert "objects[4]" in str(data.faults[0])


def test_cityscapes_against_painting_by_another_library(tmp_path):
    import cv2

    rng = np.random.default_rng(3)
    shapes = []
    for label in ("car", "person", "building", "bus", "truck", "sky", "train"):
        x, y = rng.integers(-5, 40, 2)
        w, h = rng.integers(4, 20, 2)
        corners = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
        shapes.append({"label": label, "polygon": [[int(a), int(b)] for a, b in corners]})
    canvas = np.zeros((40, 48), np.uint8)
    for at, shape in enumerate(shapes):
        cv2.fillPoly(canvas, [np.array(shape["polygon"])], at + 1)
    cityscapes_tree(tmp_path)
    path = next(tmp_path.rglob("*_polygons.json"))
    path.write_text(json.dumps({**CITYSCAPES_JSON, "objects": shapes}))
    data = CityscapesData(tmp_path)
    expected = []
    for at, shape in enumerate(shapes):
        visible = (canvas == at + 1).astype(np.uint8)
        if shape["label"] not in ("building", "sky") and visible.any():
            x, y, w, h = cv2.boundingRect(visible)
            expected.append((shape["label"], x, y, x + w, y + h))
    assert len(expected) > 2
    assert named(data, data.samples[0].id) == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools itself
def test_cityscapes_masks_are_the_pixels_that_stay_visible(tmp_path):
    mask = pytest.importorskip("pycocotools.mask")
    cityscapes_tree(tmp_path)
    path = next(tmp_path.rglob("*_polygons.json"))
    shapes = [
        {"label": "car", "polygon": [[-5, -5], [20, -5], [20, 15], [-5, 15]]},
        {"label": "pole", "polygon": [[8, -5], [10, -5], [10, 50], [8, 50]]},
        {"label": "bus", "polygon": [[40, 30], [60, 30], [60, 60], [40, 60]]},
    ]
    path.write_text(json.dumps({**CITYSCAPES_JSON, "objects": shapes}))
    car, bus = np.zeros((2, 40, 48), np.uint8)
    # A polygon's own edge belongs to it; the pole stands before the car.
    car[:16, :8] = car[:16, 11:21] = 1
    bus[30:, 40:] = 1
    annotations = CityscapesData(tmp_path).ground_truth()["annotations"]
    for annotation, wanted in zip(annotations, (car, bus), strict=True):
        code = mask.frPyObjects(annotation["segmentation"], 40, 48)
        np.testing.assert_array_equal(mask.decode(code), wanted)
        assert annotation["area"] == wanted.sum()


@pytest.mark.parametrize(("width", "height"), [("48", "40"), (48.0, 40.0), (" 48", "40.0")])
def test_cityscapes_sizes_may_be_text(tmp_path, width, height):
    value = {**CITYSCAPES_JSON, "imgWidth": width, "imgHeight": height}
    assert find_visible_objects(value, "a") == find_visible_objects(CITYSCAPES_JSON, "a")


def test_cityscapes_that_cannot_be_read_says_why(tmp_path):
    cityscapes_tree(tmp_path)
    path = next((tmp_path / "gtFine").rglob("*.json"))
    path.write_text(json.dumps({**CITYSCAPES_JSON, "imgWidth": "wide"}))
    with pytest.raises(InputError, match=r"can be read \(first: .*imgHeight as whole numbers"):
        CityscapesData(tmp_path)


SQUARE = [[0, 0], [13000, 0], [13000, 13000], [0, 13000]]


@pytest.mark.parametrize(
    ("size", "polygons", "message"),
    [
        (10**9, [SQUARE], "pixels is above the limit"),
        ("1e9", [], "pixels is above the limit"),
        (13_000, [SQUARE] * 100, "are more than any image has"),
        (
            2000,
            [[[at % 2 * 2000, at % 1999] for at in range(30_000)]],
            "are more than any image has",
        ),
    ],
)
def test_cityscapes_claims_are_bounded_before_anything_is_drawn(size, polygons, message):
    objects = [{"label": "car", "polygon": polygon} for polygon in polygons]
    value = {"imgWidth": size, "imgHeight": size, "objects": objects}
    with pytest.raises(BrokenFileError, match=message):
        find_visible_objects(value, "a.json")


def test_cityscapes_lists_what_is_wrong(tmp_path):
    cityscapes_tree(tmp_path)
    path = next(tmp_path.rglob("*_polygons.json"))
    shapes = [
        {"label": "ufo", "polygon": [[0, 0], [5, 0], [5, 5]]},
        {"label": "car", "polygon": [[0, 0], [5, "x"], [5, 5]]},
        {"polygon": []},
        {"label": "bus", "polygon": [[0, 0], [9, 0], [9, 9], [0, 9]]},
    ]
    path.write_text(json.dumps({"imgHeight": 39, "imgWidth": 48, "objects": shapes}))
    photograph(tmp_path / "leftImg8bit" / "val" / "bonn" / "x_leftImg8bit.png")
    data = CityscapesData(tmp_path)
    assert sorted(reasons(data)) == sorted(
        [
            (boxes.NO_ANNOTATIONS, False), (kinds.UNKNOWN_CLASS, False), (kinds.NOT_FINITE, False),
            (kinds.UNKNOWN_CLASS, False), (boxes.OTHER_SIZE, True),
        ]
    )  # fmt: skip
    assert named(data, data.samples[0].id) == [("bus", 0, 0, 10, 10)]
    path.write_text("[]")
    with pytest.raises(InputError, match="no image with annotations that can be read"):
        CityscapesData(tmp_path)
    with pytest.raises(InputError, match="no split 'test'; it has val"):
        CityscapesData(tmp_path, "test")


# ---------------------------------------------------------------- YOLO


@pytest.mark.parametrize("names", ["[car, dog]", "{0: car, 1: dog}", "\n  1: dog\n  0: car"])
def test_yolo_as_its_schema_says(tmp_path, names):
    data = open_detection_data(yolo_tree(tmp_path, names).parent)
    assert isinstance(data, YoloData)
    assert data.classes.names == ("car", "dog")
    # By hand, of 48 x 40 pixels.
    assert named(data, "images/val/a.jpg") == [("dog", 18, 10, 30, 30), ("car", 0, 0, 24, 20)]
    assert named(data, "images/val/b.jpg") == [("car", 0, 0, 24, 20)]
    assert data.objects["images/val/b.jpg"].areas.tolist() == [240]
    assert data.ground_truth()["annotations"][2]["segmentation"] == [[0, 0, 24, 0, 24, 20]]
    assert named(data, "images/val/c.jpg") == []
    assert data.faults == ()


def test_yolo_splits_are_folders_lists_or_several(tmp_path):
    config = yolo_tree(tmp_path)
    listed = YoloData(config, "test")
    assert [sample.id for sample in listed.samples] == ["images/val/a.jpg", "images/val/c.jpg"]
    config.write_text("val: [val.txt, images]\nnames: {7: car, 9: dog}\n")
    data = YoloData(config)
    assert len(data) == 3
    assert {fault.reason for fault in data.faults} == {kinds.UNKNOWN_CLASS}
    with pytest.raises(InputError, match=r"no split 'train'; it has val"):
        YoloData(config, "train")


def test_yolo_lists_what_is_wrong(tmp_path):
    config = yolo_tree(tmp_path)
    labels = tmp_path / "labels" / "val"
    (labels / "a.txt").write_text(
        "0 0.5 0.5 0.2\n2 .5 .5 .1 .1\nx 1 1 1 1\n0 nan 0 1 1\n0 .5 .5 -1 1\n\n"
    )
    (labels / "b.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "images" / "val" / "c.jpg").write_bytes(b"no image")
    data = YoloData(config)
    assert reasons(data) == [
        (kinds.UNKNOWN_CLASS, False), (kinds.UNKNOWN_CLASS, False), (kinds.NOT_FINITE, False),
        (kinds.NOT_FINITE, False), (kinds.NEGATIVE, False), (boxes.UNREADABLE, False),
        (boxes.NO_FILE, False),
    ]  # fmt: skip
    assert "line 2 of labels/val/a.txt" in str(data.faults[0])
    assert len(data) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: ../../images\nnames: [a]", "line 1: .*which leaves it"),
        ("val: ../nothing\nnames: [a]", "line 1: .*nothing does not exist"),
        ("val: /images\nnames: [a]", "line 1: .*which leaves it"),
        (
            "names: [a]\nval: https://host/a",
            "line 2: expected a path, got the URL 'https://host/a'",
        ),
        ("names: [a]\nval: file:///a", "line 2: .*write the path alone, without file://"),
        ("names: [a]\nval: 'D:\\a'", "line 2: .*one of Windows"),
        ("names: [a]\nval: ~/a", "line 2: '~/a' begins with ~"),
        ("\npath: ..\nval: images\nnames: [a]", "line 2: .*leaves the folder of the file"),
        ("val: images\nnames: []", "line 2: expected names as a list"),
        ("val: images\nnames: {a: b}", "line 2: expected names as a list"),
        ("val: images\nnames: [a]\nkpt_shape: 3", "line 3: expected kpt_shape"),
        ("val: images\nnames: [a]\nnc: 2", "line 3: nc is 2, but there is 1 name"),
        ("val: nothing\nnames: [a]", "nothing does not exist"),
        ("validation: 3\nnames: [a]", "line 1: expected a folder"),
        ("[1]", "expected names, and train"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_yolo_that_cannot_be_used_is_refused(tmp_path, text, message):
    config = yolo_tree(tmp_path)
    config.write_text(text)
    with pytest.raises(InputError, match=message):
        YoloData(config)


def test_a_list_that_leaves_the_folder_is_refused(tmp_path):
    config = yolo_tree(tmp_path)
    (tmp_path / "val.txt").write_text("\n../a.jpg\n")
    with pytest.raises(InputError, match=r"val\.txt, line 2: .*which leaves it"):
        YoloData(config, "test")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("https://host/a.jpg", "got the URL 'https://host/a.jpg'"),
        ("D:\\images\\a.jpg", "one of Windows"),
        ("~/a.jpg", "begins with ~"),
    ],
)
def test_a_list_with_paths_of_elsewhere_is_refused(tmp_path, written, message):
    config = yolo_tree(tmp_path)
    (tmp_path / "val.txt").write_text(f"./images/val/a.jpg\n{written}\n")
    with pytest.raises(InputError, match=rf"val\.txt, line 2: .*{message}"):
        YoloData(config, "test")


def test_a_path_elsewhere_is_read_where_the_root_is_given(tmp_path):
    config = yolo_tree(tmp_path / "data", extra="path: /datasets/here\n")
    assert len(YoloData(config, root=tmp_path / "data")) == 3
    inside = yolo_tree(tmp_path / "outer" / "inner").rename(tmp_path / "outer" / "data.yaml")
    inside.write_text("path: inner\n" + inside.read_text())
    assert YoloData(inside).samples[0].id == "inner/images/val/a.jpg"


def test_without_pyyaml_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"needs PyYAML, .*shiftproof\[detection\]"):
        YoloData(yolo_tree(tmp_path))


@pytest.mark.parametrize("stated", [True, False])
def test_coco_with_outlines_alone_has_the_boxes_of_the_masks(tmp_path, stated):
    """A JSON need not say the sizes that polygons take, where the images do."""
    photograph(tmp_path / "images" / "a.jpg")
    size = {"width": 48, "height": 40} if stated else {}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", **size}],
        "categories": [{"id": 1}],
        "annotations": [
            # The pixels whose centers lie inside: columns 10 to 29, rows 5 to 14.
            {"image_id": 1, "category_id": 1, "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]},
            {"image_id": 1, "category_id": 1, "segmentation": [[1, 2]]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = CocoData(tmp_path / "images", tmp_path / "a.json")
    assert data.objects["a.jpg"].positions.tolist() == [[10, 5, 20, 10]]
    assert data.objects["a.jpg"].areas.tolist() == [200]
    assert reasons(data) == [
        (kinds.NO_NAME, True),
        (kinds.NO_BOX, True),
        (kinds.NOT_FINITE, False),
    ]
    assert "none from the segmentation: expected a polygon" in str(data.faults[-1])


# ---------------------------------------------------------------- all of them


def test_no_marks_or_several_sets_are_errors(tmp_path):
    photograph(tmp_path / "plain" / "a.jpg")
    with pytest.raises(InputError, match="is not a dataset with boxes: expected leftImg8bit"):
        open_detection_data(tmp_path / "plain")
    with pytest.raises(InputError, match="does not exist"):
        open_detection_data(tmp_path / "none")
    coco_tree(tmp_path)
    twin = tmp_path / "annotations" / "instances_train2017.json"
    twin.write_text((tmp_path / "annotations" / "instances_val2017.json").read_text())
    with pytest.raises(
        InputError, match=r"instances_train2017\.json, .*give one of them, or a split"
    ):
        open_detection_data(tmp_path)
    assert open_detection_data(tmp_path, split="val").name.endswith("(instances_val2017)")
    yolo = yolo_tree(tmp_path / "yolo")
    with pytest.raises(InputError, match="is not COCO data"):
        open_detection_data(yolo, images=tmp_path)
    data = open_detection_data(yolo)
    assert open_detection_data(data) is data
    with pytest.raises(InputError, match="is open already"):
        open_detection_data(data, split="val")


def test_coco_images_elsewhere_are_named(tmp_path):
    coco_tree(tmp_path / "a")
    path = (tmp_path / "a" / "annotations").rename(tmp_path / "b") / "instances_val2017.json"
    (tmp_path / "c").mkdir()
    path = path.rename(tmp_path / "c" / path.name)
    (tmp_path / "a" / "val2017").rename(tmp_path / "deep")
    (tmp_path / "d" / "e" / "f").mkdir(parents=True)
    (tmp_path / "deep").rename(tmp_path / "d" / "e" / "f" / "g")
    with pytest.raises(InputError, match="give the folder as images"):
        open_detection_data(path)
    images = tmp_path / "d" / "e" / "f" / "g"
    assert len(open_detection_data(path, images=images)) == 3
    # So it is where the folder of the JSON is given in place of the file.
    assert len(open_detection_data(path.parent, images=images)) == 3


def test_the_fingerprint_moves_with_a_box_and_with_an_image(tmp_path):
    base = voc_tree(tmp_path)
    prints = [VocData(base).fingerprint()]
    path = base / "Annotations" / "000005.xml"
    path.write_text(path.read_text().replace("<xmax>13<", "<xmax>14<"))
    prints.append(VocData(base).fingerprint())
    path.write_text(path.read_text().replace("<difficult>1<", "<difficult>0<"))
    prints.append(VocData(base).fingerprint())
    photograph(base / "JPEGImages" / "000007.jpg", 55)
    prints.append(VocData(base).fingerprint())
    assert len(set(prints)) == 4
    assert VocData(base).fingerprint() == prints[-1]


def test_boxes_from_anywhere_else_make_a_data_set(tmp_path):
    photograph(tmp_path / "a.png")
    found = ImageObjects(
        48, 40, np.array([[1.0, 2, 3, 4]]), np.array([1]), np.array([False]), np.array([True]),
        np.array([12.0]),
    )  # fmt: skip
    data = DetectionData("mine", tmp_path, {"a.png": found}, Classes(("a", "b")))
    assert data.read(data.samples[0]).shape == (40, 48, 3)
    assert data.ground_truth()["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12.0, "iscrowd": 0,
         "difficult": 1}
    ]  # fmt: skip
    loaded = pickle.loads(pickle.dumps(data))
    assert loaded.fingerprint() == data.fingerprint()
    with pytest.raises(InputError, match="ascending category ids"):
        DetectionData("mine", tmp_path, {"a.png": found}, Classes(("a", "b")), category_ids=[2, 1])
    with pytest.raises(InputError, match="which leaves it"):
        DetectionData("mine", tmp_path, {"../a.png": found}, Classes(("a", "b")))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the 100 labeled photographs of voc100")
def test_three_formats_of_real_photographs_are_the_same_boxes_to_the_pixel(tmp_path):
    names = (REAL / "yolo" / "obj.names").read_text().split()
    (tmp_path / "images").symlink_to(REAL / "images")
    (tmp_path / "labels").symlink_to(REAL / "yolo" / "obj_train_data")
    (tmp_path / "data.yaml").write_text(f"names: {json.dumps(names)}\nval: images\n")
    three = [
        VocData(REAL, images="images", annotations="pascal_voc_xml"),
        CocoData(REAL / "images", REAL / "coco" / "instances_default.json"),
        open_detection_data(tmp_path),
    ]
    tables = []
    for data in three:
        assert data.faults == ()
        tables.append(
            {
                sample.id.split("/")[-1]: sorted(
                    (name, *np.rint(box).astype(int).tolist())
                    for name, *box in named(data, sample.id)
                )
                for sample in data.samples
            }
        )
    assert len(tables[0]) == 100
    assert sum(map(len, tables[0].values())) == 273
    assert tables[0] == tables[1] == tables[2]
