"""Copies of datasets as people export them: every photograph changed, nothing else, all of it said."""

import io
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from shiftproof import cli, corrupt
from shiftproof.data import export_corrupted, open_detection_data
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.stylize import export_stylized
from support.detection_trees import coco_tree, photograph, voc_tree, yolo_tree
from support.exported_layouts import (
    LEVEL,
    coco_json,
    picture,
    roboflow_coco,
    roboflow_yolo,
    voc_xml,
)

CELL = Path("contrast", "3")


def copy(source, target, **more):
    return export_corrupted(
        source,
        target,
        corruptions=["contrast"],
        severities=[3],
        workers=0,
        show_progress=False,
        **more,
    )


def stylize(source, target, **more):
    return export_stylized(source, target, workers=0, show_progress=False, **more)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def check_corrupted(root, key, written):
    expected = corrupt(pixels(root / key), "contrast", severity=3, key=key)
    np.testing.assert_array_equal(pixels(written), expected)


ODD = ["a.jpg", "b.jfif", "c.mpo", "d.heic", "e", "f.0001"]
"""All of them JPEG, whatever they are called."""

NEW = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.0001.png"]


def odd_pictures(folder):
    for place, name in enumerate(ODD):
        path = photograph(folder / "x.jpg", place)
        path.rename(folder / name)


def test_every_image_of_coco_is_corrupted_whatever_it_is_called(tmp_path):
    root = tmp_path / "coco"
    odd_pictures(root / "images")
    photograph(root / "x.png").rename(root / "images" / "g.avif")
    (root / "images" / "h.jp2").write_bytes(b"no image")
    coco_json(root / "boxes.json", [*ODD, "g.avif", "h.jp2"])
    done = copy(root, tmp_path / "out")
    assert (done.written, set(done.broken)) == (len(ODD) + 1, {"images/h.jp2"})
    cell = tmp_path / "out" / CELL
    for name, new in zip(ODD, NEW, strict=True):
        check_corrupted(root, f"images/{name}", cell / "images" / new)
    value = json.loads((cell / "boxes.json").read_text())
    assert [image["file_name"] for image in value["images"]] == [*NEW, "g.png", "h.png"]
    data = open_detection_data(cell)
    assert len(data) == len(ODD) + 2
    assert [fault.where for fault in data.faults] == ["images/h.png"]


def test_every_image_of_coco_is_stylized_whatever_it_is_called(tmp_path):
    odd_pictures(tmp_path / "coco" / "images")
    coco_json(tmp_path / "coco" / "boxes.json", ODD)
    done = stylize(tmp_path / "coco", tmp_path / "out", combined=True)
    assert (done.written, done.broken) == (len(ODD), {})
    data = open_detection_data(tmp_path / "out")
    assert len(data) == 2 * len(ODD)
    assert data.faults == ()


def test_every_image_of_yolo_and_voc_is_corrupted_whatever_it_is_called(tmp_path):
    yolo = tmp_path / "yolo"
    for name in ("b.jfif", "c.mpo", "d.heic", "e"):
        photograph(yolo / "images" / "val" / "x.jpg").rename(yolo / "images" / "val" / name)
        label = yolo / "labels" / "val" / f"{name[0]}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (yolo / "data.yaml").write_text("val: images/val\nnames: [cat]\n")
    assert copy(yolo, tmp_path / "out").written == 4
    data = open_detection_data(tmp_path / "out" / CELL)
    assert [sample.id[-5:] for sample in data.samples] == ["b.png", "c.png", "d.png", "e.png"]
    assert all(len(found) == 1 for found in data.objects.values())

    base = voc_tree(tmp_path / "voc")
    (base / "JPEGImages" / "000007.jpg").rename(base / "JPEGImages" / "000007.jfif")
    (base / "JPEGImages" / "000005.jpg").rename(base / "JPEGImages" / "000005")
    assert copy(base, tmp_path / "out2").written == 2
    cell = tmp_path / "out2" / CELL
    for stem in ("000005", "000007"):
        said = ElementTree.parse(cell / "Annotations" / f"{stem}.xml").findtext("filename")
        assert said == f"{stem}.png"
        assert (cell / "JPEGImages" / said).is_file()


def test_every_image_of_a_plain_folder_is_corrupted_and_the_rest_is_said(tmp_path, capsys):
    odd_pictures(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("")
    words = ["-c", "contrast", "-s", "3", "-w", "0"]
    assert cli.run(["corrupt", str(tmp_path / "a"), str(tmp_path / "out"), *words]) == 0
    shown = capsys.readouterr()
    assert "6 images written" in shown.out
    assert "1 file that is not an image (1 .txt): left out" in shown.err
    assert sorted(path.name for path in (tmp_path / "out" / CELL).iterdir()) == NEW
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["left aside"] == ["1 file that is not an image (1 .txt): left out"]


@pytest.mark.parametrize("name", ["b.jfif", "b.mpo", "b.jp2", "b"])
def test_format_source_keeps_the_name_where_the_format_can_be_kept(tmp_path, name):
    photograph(tmp_path / "a" / "x.jpg").rename(tmp_path / "a" / name)
    copy(tmp_path / "a", tmp_path / "out", image_format="source")
    written = Image.open(io.BytesIO((tmp_path / "out" / CELL / name).read_bytes()))
    assert written.format == {"b.jp2": "JPEG2000", "b": "PNG"}.get(name, "JPEG")
    if written.format != "JPEG":
        check_corrupted(tmp_path / "a", name, tmp_path / "out" / CELL / name)


# ---------------------------------------------------------------- what is no photograph


def test_label_maps_of_coco_stay_as_they_are(tmp_path):
    root = tmp_path / "coco"
    coco_tree(root)
    for folder in ("stuffthingmaps/val2017", "depth", "val2017/masks"):
        picture(root / folder / "9.png", 5)
    picture(root / "val2017" / "9.png", 7)  # beside its photograph
    done = copy(root, tmp_path / "out")
    assert done.written == 3
    cell = tmp_path / "out" / CELL
    for name in (
        "stuffthingmaps/val2017/9.png",
        "depth/9.png",
        "val2017/masks/9.png",
        "val2017/9.png",
    ):
        assert (cell / name).read_bytes() == (root / name).read_bytes()
    assert any("4 images that the annotations do not name" in text for text in done.omissions)
    data = open_detection_data(cell)
    check_corrupted(root, "val2017/9.jpg", cell / data.samples[0].id)


def test_label_maps_of_yolo_and_voc_stay_as_they_are(tmp_path):
    yolo = yolo_tree(tmp_path / "yolo").parent
    picture(yolo / "masks" / "val" / "a.png", 5)
    voc = voc_tree(tmp_path / "voc")
    for root, name in ((yolo, "masks/val/a.png"), (voc, "SegmentationClass/000005.png")):
        done = copy(root, tmp_path / "out" / root.name)
        written = tmp_path / "out" / root.name / CELL / name
        assert written.read_bytes() == (root / name).read_bytes()
        assert any("1 image that the annotations do not name" in text for text in done.omissions)


def test_maps_of_a_plain_folder_are_carried_over_once_the_photographs_are_named(tmp_path, capsys):
    for name in ("1.png", "2.png"):
        picture(tmp_path / "a" / "images" / name, 90)
        picture(tmp_path / "a" / "masks" / name, 5)
    with pytest.raises(InputError, match="--images"):
        copy(tmp_path / "a", tmp_path / "out")
    words = ["-c", "contrast", "-s", "3", "-w", "0", "--images", "images"]
    assert cli.run(["corrupt", str(tmp_path / "a"), str(tmp_path / "out"), *words]) == 0
    cell = tmp_path / "out" / CELL
    assert (cell / "masks" / "1.png").read_bytes() == (tmp_path / "a/masks/1.png").read_bytes()
    check_corrupted(tmp_path / "a", "images/1.png", cell / "images" / "1.png")


# ---------------------------------------------------------------- annotations go along


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "flat voc", "bare yolo"])
def test_exports_are_carried_over_with_their_annotations(tmp_path, kind):
    root = tmp_path / "data"
    if kind == "coco":
        roboflow_coco(root)
    elif kind == "yolo":
        roboflow_yolo(root)
    elif kind == "voc":
        for split in ("train", "valid"):
            picture(root / split / "1.jpg", LEVEL[split])
            voc_xml(root / split / "1.xml", "1.jpg")
    elif kind == "flat voc":
        picture(root / "images" / "1.jpg", 10)
        voc_xml(root / "annotations" / "1.xml", "1.jpg")
    else:
        picture(root / "images" / "1.jpg", 10)
        (root / "labels").mkdir()
        (root / "labels" / "1.txt").write_text("0 .5 .5 .1 .1\n")
    split = {"coco": "train", "voc": "train", "yolo": "train"}.get(kind)
    before = open_detection_data(root, split=split)
    copy(root, tmp_path / "out")
    after = open_detection_data(tmp_path / "out" / CELL, split=split)
    assert after.ground_truth()["annotations"] == before.ground_truth()["annotations"]
    assert after.faults == ()
    for old, new in zip(before.samples, after.samples, strict=True):
        check_corrupted(root, old.id, tmp_path / "out" / CELL / new.id)
    combined = stylize(root, tmp_path / "styled", combined=True)
    assert combined.broken == {}
    assert len(open_detection_data(tmp_path / "styled", split=split)) == 2 * len(before)


def test_a_split_alone(tmp_path):
    roboflow_coco(tmp_path / "coco")
    done = copy(tmp_path / "coco", tmp_path / "out", split="valid")
    assert done.written == 1
    assert any("2 images of other splits: left out" in text for text in done.omissions)
    cell = tmp_path / "out" / CELL
    assert sorted(path.relative_to(cell).as_posix() for path in cell.rglob("*.png")) == [
        "valid/1.png"
    ]


def test_the_photographs_of_both_splits_are_told_apart(tmp_path):
    root = tmp_path / "coco"
    for split in ("train", "val"):
        picture(root / "images" / split / "1.jpg", LEVEL[split])
        coco_json(root / "annotations" / f"instances_{split}.json", ["1.jpg"])
    assert copy(root, tmp_path / "out").written == 2
    for split in ("train", "val"):
        data = open_detection_data(tmp_path / "out" / CELL, split=split)
        assert [sample.id for sample in data.samples] == [f"images/{split}/1.png"]
    coco_json(root / "annotations" / "boxes.json", ["1.jpg"])
    with pytest.raises(InputError, match="images/train/ and images/val/"):
        copy(root, tmp_path / "other")


def test_a_cut_json_stops_a_copy(tmp_path):
    roboflow_coco(tmp_path / "coco")
    path = tmp_path / "coco" / "train" / "_annotations.coco.json"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(
        BrokenFileError, match=r"_annotations\.coco\.json, line 1, column \d+: not valid JSON"
    ):
        copy(tmp_path / "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["images\\1.jpg", "data/images/1.jpg", "images/1.jpg", "1.jpg"])
def test_names_in_a_json_keep_their_form(tmp_path, name):
    picture(tmp_path / "coco" / "images" / "1.jpg", 90)
    coco_json(tmp_path / "coco" / "result.json", [name])
    copy(tmp_path / "coco", tmp_path / "out")
    value = json.loads((tmp_path / "out" / CELL / "result.json").read_text())
    assert value["images"][0]["file_name"] == name.replace(".jpg", ".png")
    assert open_detection_data(tmp_path / "out" / CELL).faults == ()


def test_images_that_a_json_names_in_vain_are_said(tmp_path):
    picture(tmp_path / "coco" / "1.jpg", 90)
    coco_json(tmp_path / "coco" / "a.json", ["1.jpg", "2.jpg"])
    done = copy(tmp_path / "coco", tmp_path / "out")
    assert "a.json: 1 of its images is missing" in done.omissions


# ---------------------------------------------------------------- lists


def test_lists_of_voc_in_every_form(tmp_path):
    base = voc_tree(tmp_path / "voc")
    photograph(base / "JPEGImages" / "my dog.jpg", 3)
    voc_xml(base / "Annotations" / "my dog.xml", "my dog.jpg")
    lists = base / "ImageSets" / "Main"
    (lists / "val.txt").write_bytes(
        "\ufeff000005\n000007.jpg\nmy dog\nmy dog  -1\n000005  1\nnothing\n".encode()
    )
    done = stylize(base, tmp_path / "out", combined=True)
    mark = "-stylized-1"
    written = (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text(encoding="utf-8")
    assert written.splitlines() == [
        "000005", f"000005{mark}", "000007.jpg", f"000007{mark}.png", "my dog", f"my dog{mark}",
        "my dog  -1", f"my dog{mark}  -1", "000005  1", f"000005{mark}  1", "nothing",
    ]  # fmt: skip
    assert [text for text in done.omissions if "val.txt" in text] == [
        "ImageSets/Main/val.txt, line 6: 'nothing' names no image; left as it is"
    ]
    copy(base, tmp_path / "plain")
    written = (tmp_path / "plain" / CELL / "ImageSets" / "Main" / "val.txt").read_text()
    assert "000007.png" in written.splitlines()


def test_lists_and_yaml_of_yolo_with_byte_order_marks_and_absolute_paths(tmp_path):
    root = yolo_tree(tmp_path / "yolo").parent
    (root / "data.yaml").write_text(
        f"path: {root}\ntrain:\n  - {root}/images/val\nval: ../images/val\ntest: val.txt\n"
        "names: [car, dog]\n",
        encoding="utf-8-sig",
    )
    (root / "val.txt").write_text("images/val/a.jpg\nimages\\val\\b.jpg\n", encoding="utf-8-sig")
    copy(root, tmp_path / "out")
    cell = tmp_path / "out" / CELL
    written = (cell / "data.yaml").read_text(encoding="utf-8-sig")
    assert str(root) not in written
    assert yaml.safe_load(written)["train"] == ["images/val"]
    assert (cell / "val.txt").read_text() == "images/val/a.png\nimages\\val\\b.png\n"
    for split, count in (("train", 3), ("val", 3), ("test", 2)):
        assert len(open_detection_data(cell, split=split)) == count


def test_a_yaml_whose_root_is_given_on_the_command_line(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    root = yolo_tree(tmp_path / "yolo", extra=f"path: {tmp_path}/other\n").parent
    words = ["corrupt", str(root), str(tmp_path / "out"), "-c", "contrast", "-s", "3", "-w", "0"]
    assert cli.run(words) == 2
    assert "--root" in capsys.readouterr().err
    assert cli.run([*words, "--root", str(root)]) == 0
    assert len(open_detection_data(tmp_path / "out" / CELL)) == 3


def test_the_annotations_of_coco_in_yolo_data_get_the_new_names_too(tmp_path):
    root = yolo_tree(tmp_path / "yolo").parent
    coco_json(root / "annotations" / "instances_val.json", ["a.jpg", "b.jpg"])
    copy(root, tmp_path / "out")
    path = tmp_path / "out" / CELL / "annotations" / "instances_val.json"
    names = [image["file_name"] for image in json.loads(path.read_text())["images"]]
    assert names == ["a.png", "b.png"]
    shutil.rmtree(tmp_path / "out")
