"""Datasets as people export them: each is found, or both readings are named."""

import json
import shutil

import numpy as np
import pytest

from shiftproof import cli
from shiftproof.classes import name_classes
from shiftproof.data import find_dataset, open_data, open_detection_data
from shiftproof.embed import open_pictures
from shiftproof.errors import BrokenFileError, InputError, LabelError
from support.detection_trees import (
    cityscapes_tree,
    coco_tree,
    photograph,
    voc_tree,
    yolo_tree,
)
from support.exported_layouts import (
    LEVEL,
    coco_json,
    picture,
    roboflow_coco,
    roboflow_yolo,
    voc_xml,
)


def levels(data):
    return [int(data.read(sample).mean().round()) for sample in data.samples]


# ---------------------------------------------------------------- COCO


@pytest.mark.parametrize(
    ("train", "val"),
    [("images/train", "images/val"), ("train2017", "val2017"), ("a/train", "a/valid")],
)
@pytest.mark.parametrize("split", [None, "val"])
def test_a_json_gets_the_photographs_of_its_own_split(tmp_path, train, val, split):
    picture(tmp_path / train / "1.png", LEVEL["train"])
    picture(tmp_path / val / "1.png", LEVEL["val"])
    coco_json(tmp_path / "annotations" / "instances_val.json", ["1.png"])
    data = open_detection_data(tmp_path, split=split)
    assert [sample.id for sample in data.samples] == [f"{val}/1.png"]
    assert levels(data) == [LEVEL["val"]]


def test_a_name_that_no_file_can_have_is_a_missing_image(tmp_path):
    picture(tmp_path / "1.png", LEVEL["val"])
    path = coco_json(tmp_path / "boxes.json", ["1.png", f"{'x' * 300}.png"])
    data = open_detection_data(path)
    assert [sample.id[:5] for sample in data.samples] == ["1.png", "xxxxx"]


def test_a_json_that_names_no_image_is_one_sentence(tmp_path):
    picture(tmp_path / "images" / "1.png", LEVEL["val"])
    path = coco_json(tmp_path / "annotations" / "boxes.json", [])
    with pytest.raises(InputError, match=r"boxes\.json"):
        open_detection_data(path)


def test_two_folders_that_could_be_meant_are_both_named(tmp_path):
    for folder in ("train", "val"):
        picture(tmp_path / "images" / folder / "1.png", LEVEL[folder])
    path = coco_json(tmp_path / "annotations" / "boxes.json", ["1.png"])
    with pytest.raises(InputError, match=r"images/train/ and images/val/.*--images"):
        open_detection_data(tmp_path)
    # The split that is asked for decides; and so does the folder.
    assert levels(open_detection_data(tmp_path, split="val")) == [LEVEL["val"]]
    for images in (tmp_path / "images" / "train", "images/train"):
        data = open_detection_data(path, images=images)
        assert [sample.id for sample in data.samples] == ["images/train/1.png"]
        assert levels(data) == [LEVEL["train"]]


def test_a_folder_that_is_a_part_of_a_word_of_the_json_is_not_named_by_it(tmp_path):
    for folder, level in {"a": 10, "zoo": 90}.items():
        picture(tmp_path / folder / "1.png", level)
    path = coco_json(tmp_path / "annotations" / "instances.json", ["1.png"])
    with pytest.raises(InputError, match="found in a/ and zoo/"):
        open_detection_data(tmp_path)
    path.rename(path.with_name("instances_zoo.json"))
    assert levels(open_detection_data(tmp_path)) == [90]


def test_another_splits_photographs_alone_are_refused(tmp_path):
    picture(tmp_path / "images" / "train" / "1.png", LEVEL["train"])
    coco_json(tmp_path / "annotations" / "instances_val.json", ["1.png"])
    with pytest.raises(InputError, match="which is named after another split"):
        open_detection_data(tmp_path)


def test_a_folder_that_holds_all_is_before_one_that_holds_some(tmp_path):
    for name in ("1.png", "2.png"):
        picture(tmp_path / "photos" / name, 10)
    picture(tmp_path / "samples" / "1.png", 90)
    coco_json(tmp_path / "boxes.json", ["1.png", "2.png"])
    assert levels(open_detection_data(tmp_path)) == [10, 10]


@pytest.mark.parametrize("json_at", ["a.json", "annotations/a.json"])
def test_the_folder_beside_is_not_taken(tmp_path, json_at):
    path = coco_json(tmp_path / "A" / json_at, ["1.png"])
    picture(tmp_path / "B" / "1.png", 10)
    for source in (tmp_path / "A", path):
        with pytest.raises(InputError, match="give the folder as images"):
            open_detection_data(source)
    assert levels(open_detection_data(path, images=tmp_path / "B")) == [10]


def test_a_folder_called_images_beside_that_of_the_json_is_taken(tmp_path):
    path = coco_json(tmp_path / "coco" / "instances_default.json", ["1.png"])
    picture(tmp_path / "images" / "1.png", 10)
    assert [sample.id for sample in open_detection_data(path).samples] == ["images/1.png"]
    with pytest.raises(InputError, match="give the folder as images"):
        open_detection_data(path.parent)


def test_coco_as_roboflow_writes_it(tmp_path):
    roboflow_coco(tmp_path)
    with pytest.raises(InputError, match=r"train/_annotations\.coco\.json.*--split"):
        open_detection_data(tmp_path)
    for split in ("train", "valid", "val", "test"):
        data = open_detection_data(tmp_path, split=split)
        assert levels(data) == [LEVEL[split]]
    assert [sample.id for sample in data.samples] == ["test/1.png"]
    found = find_dataset(tmp_path)
    assert (found.layout, len(found.images), len(found.parts)) == ("coco", 3, 3)


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("annotations/instances_default.json", "images"),  # CVAT
        ("annotations/instances_default.json", "images/default"),
        ("labels.json", "data"),  # fiftyone
        ("result.json", "images"),  # Label Studio
        ("annotations/instances_val2017.json", "val2017"),
    ],
)
def test_coco_as_the_tools_write_it(tmp_path, path, folder):
    picture(tmp_path / folder / "1.png", 10)
    coco_json(tmp_path / path, ["1.png"])
    found = find_dataset(tmp_path)
    assert found.sentences == (f"COCO, {path}, 1 image in {folder}/",)
    assert [s.id for s in open_detection_data(tmp_path).samples] == [f"{folder}/1.png"]


@pytest.mark.parametrize(
    "name",
    [
        "images\\1.png",
        "images\\7/1.png",
        "data/images/1.png",
        "images/1.png",
        "/data/upload/7/1.png",
        "..\\..\\label-studio\\label-studio\\media\\upload\\4\\1.png",
    ],
)
def test_names_as_label_studio_writes_them(tmp_path, name):
    picture(tmp_path / "images" / "1.png", 10)
    coco_json(tmp_path / "result.json", [name])
    data = open_detection_data(tmp_path)
    assert [sample.id for sample in data.samples] == ["images/1.png"]
    assert (levels(data), data.faults) == ([10], ())


def test_key_points_and_captions_beside_do_not_stand_in_the_way(tmp_path):
    coco_tree(tmp_path)
    first = tmp_path / "annotations" / "instances_val2017.json"
    shutil.copy(first, first.with_name("person_keypoints_val2017.json"))
    first.with_name("captions_val2017.json").write_text('{"images": [], "annotations": []}')
    assert open_detection_data(tmp_path).name.endswith("(instances_val2017)")
    found = find_dataset(tmp_path)
    assert found.splits == ("annotations/instances_val2017.json",)
    assert "person_keypoints_val2017.json" in found.omissions[0]


@pytest.mark.parametrize("text", ['{"info": {}, "images": [{"id": 1, "file', "", "{", '{"images"'])
def test_a_json_that_is_cut_is_named_with_its_reason(tmp_path, text):
    picture(tmp_path / "images" / "1.png", 10)
    cut = tmp_path / "instances_train.json"
    cut.write_text(text)
    with pytest.raises(
        BrokenFileError, match=r"instances_train\.json, line 1, column \d+: not valid JSON"
    ):
        open_detection_data(tmp_path)
    # Nor is another one opened in its place without a word.
    coco_json(tmp_path / "instances_val.json", ["1.png"])
    with pytest.raises(
        BrokenFileError, match=r"instances_train\.json, line 1, column \d+: not valid JSON"
    ):
        open_detection_data(tmp_path)
    assert levels(open_detection_data(tmp_path, split="val")) == [10]


def test_coco_with_a_byte_order_mark(tmp_path):
    picture(tmp_path / "images" / "1.png", 10)
    path = coco_json(tmp_path / "a.json", ["1.png"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert levels(open_detection_data(tmp_path)) == [10]


# ---------------------------------------------------------------- Pascal VOC


def test_voc_in_folders_of_any_name(tmp_path):
    picture(tmp_path / "images" / "1.png", 10)
    picture(tmp_path / "masks" / "1.png", 77)
    voc_xml(tmp_path / "annotations" / "1.xml", "1.png")
    data = open_detection_data(tmp_path)
    assert [sample.id for sample in data.samples] == ["images/1.png"]
    assert data.objects["images/1.png"].boxes.tolist() == [[3, 4, 13, 24]]


def test_voc_as_roboflow_writes_it(tmp_path):
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / "1.png", LEVEL[split])
        voc_xml(tmp_path / split / "1.xml", "1.png")
    with pytest.raises(InputError, match=r"train, valid.*--split"):
        open_detection_data(tmp_path)
    data = open_detection_data(tmp_path, split="val")
    assert ([s.id for s in data.samples], levels(data)) == (["valid/1.png"], [LEVEL["val"]])
    assert len(find_dataset(tmp_path).images) == 3


# ---------------------------------------------------------------- YOLO


def test_yolo_as_roboflow_writes_it(tmp_path):
    root = roboflow_yolo(tmp_path / "export")
    data = open_detection_data(root)
    assert ([s.id for s in data.samples], levels(data)) == (["valid/images/1.png"], [LEVEL["val"]])
    assert data.objects["valid/images/1.png"].positions.tolist() == [[12, 10, 24, 20]]
    assert levels(open_detection_data(root, split="train")) == [LEVEL["train"]]
    with pytest.raises(InputError, match=r"\.\./test/images does not exist"):
        open_detection_data(root, split="test")
    # Where the path is there as it stands, too, both are named.
    picture(tmp_path / "valid" / "images" / "1.png", 3)
    with pytest.raises(InputError, match=r"can be .*--root"):
        open_detection_data(root)
    assert levels(open_detection_data(root, root=root)) == [LEVEL["val"]]


@pytest.mark.parametrize("shape", [(12, 2), (4, 2), (17, 3), (21, 3)])
def test_a_row_of_key_points_begins_with_its_box(tmp_path, shape):
    picture(tmp_path / "images" / "val" / "1.png", 10, (64, 48))
    (tmp_path / "labels" / "val").mkdir(parents=True)
    points = " ".join(["0.1", "0.9", "2"][: shape[1]] * shape[0])
    row = f"0 0.5 0.5 0.25 0.5 {points}\n"
    (tmp_path / "labels" / "val" / "1.txt").write_text(row + "0 0.5 0.5 0.25 0.5 1\n")
    (tmp_path / "data.yaml").write_text(
        f"val: images/val\nkpt_shape: {list(shape)}\nnames: [person]\n"
    )
    data = open_detection_data(tmp_path)
    found = data.objects["images/val/1.png"]
    # By hand, of 64 x 48 pixels.
    assert found.positions.tolist() == [[24, 12, 16, 24]]
    assert found.outlines is None
    assert len(data.faults) == 1


def test_a_rotated_box_is_the_smallest_box_around_it(tmp_path):
    picture(tmp_path / "images" / "val" / "1.png", 10, (100, 100))
    (tmp_path / "labels" / "val").mkdir(parents=True)
    (tmp_path / "labels" / "val" / "1.txt").write_text("0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n")
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [ship]\n")
    found = open_detection_data(tmp_path).objects["images/val/1.png"]
    np.testing.assert_allclose(found.positions, [[10, 10, 80, 80]])
    np.testing.assert_allclose(found.areas, [3200])  # a square of 40 * sqrt(2)


def test_yolo_without_a_yaml_has_numbers_for_classes_or_those_of_a_file(tmp_path):
    picture(tmp_path / "images" / "1.png", 10)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    data = open_detection_data(tmp_path)
    assert data.classes.names == ("class_0", "class_1", "class_2")
    assert "classes are numbers" in find_dataset(tmp_path).notes[0]
    (tmp_path / "classes.txt").write_text("\ufeffcar\ndog\nhorse\n", encoding="utf-8")
    assert open_detection_data(tmp_path).classes.names == ("car", "dog", "horse")


@pytest.mark.parametrize("lines", ["path: {root}\n", "path: ../{name}\n", "path: /content/ds\n"])
def test_a_path_that_leads_to_the_folder_itself_or_to_no_place_is_read(tmp_path, lines):
    root = tmp_path / "own-name"
    yolo_tree(root, extra=lines.format(root=root, name=root.name))
    assert len(open_detection_data(root)) == 3


def test_a_path_that_leads_elsewhere_needs_the_root(tmp_path):
    (tmp_path / "other").mkdir()
    config = yolo_tree(tmp_path / "yolo", extra=f"path: {tmp_path / 'other'}\n")
    with pytest.raises(InputError, match="--root"):
        open_detection_data(config.parent)
    assert len(open_detection_data(config.parent, root=config.parent)) == 3
    with pytest.raises(InputError, match="not YOLO data"):
        find_dataset(cityscapes_tree(tmp_path / "city"), root=tmp_path)


def test_lists_with_absolute_paths_below_the_folder(tmp_path):
    config = yolo_tree(tmp_path)
    (tmp_path / "val.txt").write_text(f"{tmp_path}/images/val/a.jpg\n")
    data = open_detection_data(config, split="test")
    assert [sample.id for sample in data.samples] == ["images/val/a.jpg"]


def test_yolo_with_byte_order_marks(tmp_path):
    picture(tmp_path / "images" / "val" / "1.png", 10)
    (tmp_path / "labels" / "val").mkdir(parents=True)
    for name, text in {
        "data.yaml": "names: [cat]\nval: list.txt\n",
        "list.txt": "images/val/1.png\n",
        "labels/val/1.txt": "0 0.5 0.5 0.5 0.5\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    data = open_detection_data(tmp_path)
    assert len(data.objects["images/val/1.png"]) == 1
    assert data.faults == ()


@pytest.mark.parametrize(
    "text",
    [
        "names: &a [x]\nval: [*a, *a]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(3)),
        "names: !!timestamp nothing\nval: images\n",
        "names: !!int x\nval: images\n",
        "names: !!float x\nval: images\n",
        "names: [a]\nval: !!set {x, y}\n",
    ],
)
def test_a_hostile_yaml_is_an_error_of_the_file(tmp_path, text):
    yolo_tree(tmp_path).write_text(text)
    with pytest.raises(InputError):
        open_detection_data(tmp_path)


# ---------------------------------------------------------------- the others


def test_a_plain_folder_with_maps_beside_is_asked_for(tmp_path):
    for name in ("1.png", "2.png"):
        picture(tmp_path / "images" / name, 10)
        picture(tmp_path / "masks" / name.replace(".png", "_mask.png"), 200)
    with pytest.raises(InputError, match=r"masks/ holds images .*--images images.*--images \."):
        find_dataset(tmp_path)
    assert find_dataset(tmp_path, images="images").images == ("images/1.png", "images/2.png")
    assert len(find_dataset(tmp_path, images=tmp_path).images) == 4


def masks_beside(root):
    picture(root / "images" / "a.png", 10)
    picture(root / "masks" / "a.png", 200)


def split_folders(root):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            picture(root / split / name / "1.png", LEVEL[split])


def hidden_and_others(root):
    picture(root / "cat" / "1.png", 10)
    picture(root / ".thumbnails" / "1.png", 10)
    (root / "cat" / "._1.png").write_bytes(b"of a Mac")
    (root / "notes.txt").write_text("no image")


def tars_beside(root):
    picture(root / "cat" / "1.png", 10)
    (root / "cat.tar").write_bytes(b"what the images came in")


READ_ALIKE = [
    coco_tree,
    voc_tree,
    roboflow_coco,
    yolo_tree,
    cityscapes_tree,
    masks_beside,
    split_folders,
    hidden_and_others,
    tars_beside,
]


@pytest.mark.parametrize("make", READ_ALIKE)
@pytest.mark.parametrize("split", [None, "val"])
def test_all_verbs_read_a_folder_alike(tmp_path, make, split):
    make(tmp_path)

    def of_bench():
        return open_data(tmp_path, classes=name_classes(["cat", "dog"]), labeled=False, split=split)

    def of_probe():
        return open_data(tmp_path, classes=None, split=split)

    def of_embed():
        return open_pictures(tmp_path, split=split).data

    ids = [_ids_or_refusal(open_it) for open_it in (of_bench, of_probe, of_embed)]
    assert ids[0] == ids[1] == ids[2]
    found = _ids_or_refusal(lambda: find_dataset(tmp_path, split=split))
    if isinstance(found, str):
        assert ids[0] == found
    elif isinstance(ids[0], str):  # what measures takes one split, what copies takes all
        assert "--split" in ids[0]
        assert split is None
    elif split is not None or make not in (yolo_tree, cityscapes_tree):
        # These two have a split that is measured where none is asked for.
        assert {name for name in ids[0] if (tmp_path / name).exists()} == found


def _ids_or_refusal(open_it):
    try:
        data = open_it()
    except InputError as error:
        return str(error)
    names = data.images if hasattr(data, "images") else [s.id for s in data.samples]
    return set(names)


def test_bench_asks_what_maps_beside_photographs_are(tmp_path, capsys):
    masks_beside(tmp_path / "c")
    bench = ["bench", "-m", "demo", "-d", str(tmp_path / "c"), "--unlabeled", "-o"]
    assert cli.run([*bench, str(tmp_path / "out")]) == 2
    assert "masks/ holds images of the same names" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_class_folders_are_classes_whatever_lies_beside_their_images(tmp_path):
    for name in ("images", "masks"):
        picture(tmp_path / name / "1.png", 10)
        voc_xml(tmp_path / name / "1.xml", "1.png")
    data = open_data(tmp_path, classes=name_classes(["images", "masks"]))
    assert [(sample.id, sample.label) for sample in data.samples] == [
        ("images/1.png", 0),
        ("masks/1.png", 1),
    ]
    assert data.omissions == ("2 files that are not images (2 .xml)",)


def test_photographs_with_boxes_have_no_labels(tmp_path):
    coco_tree(tmp_path)
    data = open_data(tmp_path, classes=name_classes(["cat", "dog"]))
    assert not data.is_labeled
    assert data.samples == open_detection_data(tmp_path).samples
    with pytest.raises(LabelError, match="whose images have no labels"):
        open_data(tmp_path, classes=name_classes(["cat", "dog"]), labeled=True)


def test_splits_of_class_folders_are_named(tmp_path):
    split_folders(tmp_path)
    with pytest.raises(LabelError, match=r"one level deeper: give \S+train or \S+val"):
        open_data(tmp_path, classes=name_classes(["cat", "dog"]))


def test_classes_that_are_called_like_masks_are_classes(tmp_path):
    for folder in ("with_mask", "without_mask"):
        picture(tmp_path / folder / "1.png", 10)
    assert len(find_dataset(tmp_path).images) == 2


@pytest.mark.parametrize("name", ["b.jfif", "b.mpo", "b.heic", "b", "b.0001", "b.dat"])
def test_what_is_an_image_by_its_bytes_is_one(tmp_path, name):
    photograph(tmp_path / "a.jpg")
    shutil.copy(tmp_path / "a.jpg", tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "data.bin").write_bytes(b"\0" * 99)
    found = find_dataset(tmp_path)
    assert set(found.images) == {"a.jpg", name}
    assert found.omissions == ("2 files that are not images (1 .bin, 1 .txt)",)
    assert len(open_data(tmp_path, classes=None)) == 2


def test_the_marks_of_two_layouts_are_said(tmp_path):
    yolo_tree(tmp_path)
    coco_json(tmp_path / "annotations" / "instances_val.json", ["a.jpg"])
    found = find_dataset(tmp_path)
    assert found.layout == "yolo"
    assert "annotations of COCO: ignored, since the folder is read as YOLO" in found.omissions[0]


def test_the_command_says_what_was_found(tmp_path, capsys):
    coco_tree(tmp_path / "coco")
    voc_tree(tmp_path / "voc")
    roboflow_yolo(tmp_path / "yolo")
    assert cli.run(["data", str(tmp_path / "coco")]) == 0
    shown = capsys.readouterr()
    assert shown.out == "COCO, annotations/instances_val2017.json, 3 images in val2017/\n"
    assert cli.run(["data", str(tmp_path / "voc"), "--split", "dog_train", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["layout"], summary["images"]) == ("voc", 1)
    assert cli.run(["data", str(tmp_path / "yolo"), "--root", str(tmp_path / "yolo")]) == 0
    assert "1 image in valid/images/" in capsys.readouterr().out
    assert cli.run(["data", str(tmp_path / "nothing")]) == 2
    (tmp_path / "coco" / "annotations" / "instances_val2017.json").write_text('{"images": [')
    assert cli.run(["data", str(tmp_path / "coco")]) == 2
    assert "not valid JSON" in capsys.readouterr().out
