"""Corrupted copies of datasets with boxes, read back by other libraries."""

import errno
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection

from shiftproof import corrupt
from shiftproof.corruptions import DepthFolder, with_depth
from shiftproof.data import (
    CityscapesData,
    CocoData,
    VocData,
    YoloData,
    estimate_export,
    export_corrupted,
    open_detection_data,
)
from shiftproof.data.copies import estimate
from shiftproof.data.copies.trees import open_tree
from shiftproof.errors import InputError, RunError, RunMismatchError
from shiftproof.io import files
from support.detection_trees import (
    VOC_OBJECT,
    VOC_XML,
    cityscapes_tree,
    coco_tree,
    photograph,
    voc_tree,
    yolo_tree,
)

CELLS = ["brightness/1", "brightness/3", "contrast/1", "contrast/3"]


def copy(source, target, workers=0, **more):
    settings = {"corruptions": ["brightness", "contrast"], "severities": [1, 3]} | more
    return export_corrupted(source, target, workers=workers, show_progress=False, **settings)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def found_in(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


# ---------------------------------------------------------------- the layouts


def test_coco_is_read_by_pycocotools_in_every_cell(tmp_path, capsys):
    value = coco_tree(tmp_path / "coco")
    done = copy(tmp_path / "coco", tmp_path / "out")
    assert (done.written, done.carried, done.broken) == (12, 4, {})
    for cell in CELLS:
        root = tmp_path / "out" / cell
        theirs = COCO(str(root / "annotations" / "instances_val2017.json"))
        for image in theirs.loadImgs(theirs.getImgIds()):
            assert pixels(root / "val2017" / image["file_name"]).shape == (40, 48, 3)
        names = [image["file_name"] for image in theirs.dataset["images"]]
        assert names == ["9.png", "sub/12.png", "30.png"]
        # All the rest is as it was.
        for image, old in zip(theirs.dataset["images"], value["images"], strict=True):
            image["file_name"] = old["file_name"]
        assert json.loads(json.dumps(theirs.dataset)) == value
    # The keys are the ids of the dataset, so that it can be corrupted on the fly just so.
    data = open_detection_data(tmp_path / "coco")
    expected = corrupt(data.read(data.samples[1]), "contrast", severity=3, key=data.samples[1].id)
    np.testing.assert_array_equal(
        pixels(tmp_path / "out" / "contrast" / "3" / "val2017" / "sub" / "12.png"), expected
    )
    again = open_detection_data(tmp_path / "out" / "contrast" / "3")
    assert isinstance(again, CocoData)
    assert again.ground_truth()["annotations"] == data.ground_truth()["annotations"]
    assert again.faults == ()
    capsys.readouterr()


def test_coco_files_beside_are_rewritten_or_kept(tmp_path):
    coco = tmp_path / "coco"
    coco_tree(coco)
    captions = {"images": [{"id": 900, "file_name": "9.jpg"}, {"id": 1, "file_name": "gone.jpg"}],
                "annotations": [{"image_id": 900, "caption": "ä cat"}]}  # fmt: skip
    (coco / "annotations" / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    photograph(coco / "annotations" / "panoptic" / "9.png", 4)
    (coco / "README.txt").write_text("9.jpg\n")
    copy(coco, tmp_path / "out")
    root = tmp_path / "out" / "contrast" / "1"
    written = json.loads((root / "annotations" / "captions.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in written["images"]] == ["9.png", "gone.jpg"]
    assert written["annotations"] == captions["annotations"]
    assert (root / "README.txt").read_text() == "9.jpg\n"
    mask = Path("annotations", "panoptic", "9.png")
    assert (root / mask).read_bytes() == (coco / mask).read_bytes()


def test_format_source_keeps_every_byte_but_the_photographs(tmp_path):
    base = voc_tree(tmp_path / "voc")
    copy(tmp_path / "voc", tmp_path / "out", image_format="source")
    for cell in CELLS:
        root = tmp_path / "out" / cell / "VOCdevkit"
        theirs = VOCDetection(str(root.parent), year="2007", image_set="val", download=False)
        assert len(theirs) == 2
        image, target = theirs[0]
        assert image.format is None or image.size == (48, 40)
        assert [item["name"] for item in target["annotation"]["object"]] == ["dog", "person"]
        assert target["annotation"]["filename"] == "000005.jpg"
        assert found_in(root.parent) == found_in(tmp_path / "voc")
        for name in found_in(base):
            same = (root / "VOC2007" / name).read_bytes() == (base / name).read_bytes()
            assert same == (not name.startswith("JPEGImages"))
    photo = (
        tmp_path / "out" / "contrast" / "3" / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000005.jpg"
    )
    key = "VOCdevkit/VOC2007/JPEGImages/000005.jpg"
    clean = pixels(base / "JPEGImages" / "000005.jpg")
    buffer = io.BytesIO()
    Image.fromarray(corrupt(clean, "contrast", severity=3, key=key)).save(
        buffer, "JPEG", quality=95
    )
    assert photo.read_bytes() == buffer.getvalue()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["encoder"] == "as the source: jpeg quality 95, others lossless"


def test_annotations_outside_of_the_images_are_named(tmp_path):
    coco_tree(tmp_path / "coco")
    (tmp_path / "elsewhere").mkdir()
    name = "instances_val2017.json"
    (tmp_path / "coco" / "annotations" / name).rename(tmp_path / "elsewhere" / name)
    images = tmp_path / "coco" / "val2017"
    for source in (tmp_path / "elsewhere", tmp_path / "elsewhere" / name):
        done = copy(source, tmp_path / f"copy of {source.name}", images=images)
        [said] = [text for text in done.omissions if name in text]
        assert "not copied" in said


def test_voc_names_its_images_anew_and_keeps_the_rest(tmp_path):
    base = voc_tree(tmp_path / "voc")
    copy(base, tmp_path / "out")
    for cell in CELLS:
        root = tmp_path / "out" / cell
        for path in sorted((base / "Annotations").iterdir()):
            text = (root / "Annotations" / path.name).read_text()
            assert ElementTree.fromstring(text).findtext("filename") == f"{path.stem}.png"
            assert text == path.read_text().replace(f"{path.stem}.jpg", f"{path.stem}.png")
            assert pixels(root / "JPEGImages" / f"{path.stem}.png").shape == (40, 48, 3)
        mask = Path("SegmentationClass", "000005.png")
        assert (root / mask).read_bytes() == (base / mask).read_bytes()
        again = VocData(root, "val")
        old = VocData(base, "val").ground_truth()
        assert again.ground_truth()["annotations"] == old["annotations"]
        assert again.faults == ()


def test_a_name_that_xml_has_to_escape(tmp_path):
    base = voc_tree(tmp_path / "voc")
    photograph(base / "JPEGImages" / "a&b.jpg")
    box = VOC_OBJECT.format(1, 1, 4, 4, name="cat", difficult=0)
    (base / "Annotations" / "a&b.xml").write_text(VOC_XML.format(name="a&amp;b.jpg", objects=box))
    copy(base, tmp_path / "out")
    path = tmp_path / "out" / "contrast" / "1" / "Annotations" / "a&b.xml"
    assert ElementTree.parse(path).findtext("filename") == "a&b.png"


def test_cityscapes_keeps_its_maps_and_polygons(tmp_path):
    root = cityscapes_tree(tmp_path / "cs")
    done = copy(root, tmp_path / "out")
    assert (done.written, done.carried) == (4, 8)
    old = CityscapesData(root)
    for cell in CELLS:
        there = tmp_path / "out" / cell
        assert found_in(there) == found_in(root)
        for name in found_in(root):
            same = (there / name).read_bytes() == (root / name).read_bytes()
            assert same == name.startswith("gtFine")
        # As the dataset's own tools find the polygons of an image.
        image = next((there / "leftImg8bit").rglob("*.png"))
        polygons = str(image).replace("leftImg8bit", "gtFine").replace(
            "_gtFine.png", "_gtFine_polygons.json"
        )  # fmt: skip
        assert json.loads(Path(polygons).read_text())["imgWidth"] == 48
        assert CityscapesData(there).ground_truth() == old.ground_truth()
    assert not np.array_equal(pixels(image), pixels(next((root / "leftImg8bit").rglob("*.png"))))


def test_yolo_finds_its_labels_and_lists(tmp_path):
    config = yolo_tree(tmp_path / "yolo", extra=f"path: {tmp_path / 'yolo'}\n")
    (tmp_path / "yolo" / "abs.txt").write_text(f"{tmp_path}/yolo/images/val/b.jpg\n")
    copy(config.parent, tmp_path / "out")
    for cell in CELLS:
        root = tmp_path / "out" / cell
        value = yaml.safe_load((root / "data.yaml").read_text())
        assert "path" not in value
        assert value["names"] == ["car", "dog"]
        for split in ("train", "val"):
            images = sorted((root / value[split]).iterdir())
            assert [image.name for image in images] == ["a.png", "b.png", "c.png"]
        labels = Path("labels", "val", "a.txt")
        assert (root / labels).read_bytes() == (config.parent / labels).read_bytes()
        assert (root / "val.txt").read_text() == "./images/val/a.png\n./images/val/c.png\n"
        assert (root / "abs.txt").read_text() == "images/val/b.png\n"
        old = YoloData(config, root=config.parent).ground_truth()
        assert YoloData(root / "data.yaml").ground_truth()["annotations"] == old["annotations"]
        assert len(YoloData(root / "data.yaml", "test")) == 2


def test_a_list_in_a_folder_of_its_own_names_images_from_there(tmp_path):
    config = yolo_tree(tmp_path / "yolo")
    photograph(config.parent / "more" / "x.jpg")
    (config.parent / "more" / "list.txt").write_text("./x.jpg\n")
    config.write_text("val: more/list.txt\nnames: [car]\n")
    copy(config.parent, tmp_path / "out")
    root = tmp_path / "out" / CELLS[0]
    assert (root / "more" / "list.txt").read_text() == "./x.png\n"
    assert [sample.id for sample in YoloData(config).samples] == ["more/x.jpg"]
    assert [sample.id for sample in YoloData(root / "data.yaml").samples] == ["more/x.png"]


# ---------------------------------------------------------------- what may go wrong


@pytest.mark.parametrize("write", ["json", "xml", "list", "yaml"])
def test_annotations_that_leave_the_folder_are_refused(tmp_path, write):
    source = tmp_path / "data"
    if write == "json":
        coco_tree(source, images=[{"id": 900, "file_name": "../9.jpg"}], annotations=[])
        message = "which leaves it"
    elif write == "xml":
        base = voc_tree(source)
        (base / "Annotations" / "000005.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
        message = "declares a document type"
    elif write == "list":
        yolo_tree(source)
        (source / "val.txt").write_text("/data/images/a.jpg\n")
        message = "write the path relative to the folder"
    else:
        yolo_tree(source).write_text("val: ../../images\nnames: [a]\n")
        message = "which leaves it"
    with pytest.raises(InputError, match=message):
        copy(source, tmp_path / "out")


def test_images_that_share_their_annotations_are_refused(tmp_path):
    base = voc_tree(tmp_path / "voc")
    photograph(base / "JPEGImages" / "000005.png")
    with pytest.raises(
        InputError, match="differ only by their suffix, and share their annotations"
    ):
        copy(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_format_that_cannot_be_kept_is_refused(tmp_path):
    photograph(tmp_path / "a" / "x.gif")
    with pytest.raises(InputError, match="cannot be kept in this format; choose the format png"):
        copy(tmp_path / "a", tmp_path / "out", image_format="source")


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_formats_that_are_kept_without_loss(tmp_path, suffix):
    photograph(tmp_path / "a" / f"x.{suffix}")
    copy(tmp_path / "a", tmp_path / "out", image_format="source")
    written = Image.open(tmp_path / "out" / "contrast" / "3" / f"x.{suffix}")
    assert written.format == Image.registered_extensions()[f".{suffix}"]
    clean = pixels(tmp_path / "a" / f"x.{suffix}")
    expected = corrupt(clean, "contrast", severity=3, key=f"x.{suffix}")
    np.testing.assert_array_equal(np.asarray(written), expected)


def test_it_goes_on_where_it_stopped_and_ends_the_same(tmp_path):
    coco_tree(tmp_path / "coco")
    copy(tmp_path / "coco", tmp_path / "whole")
    copy(tmp_path / "coco", tmp_path / "out")
    for name in ("contrast/3/annotations/instances_val2017.json", "brightness/1/val2017/9.png"):
        (tmp_path / "out" / name).unlink()
    done = copy(tmp_path / "coco", tmp_path / "out", workers=2)
    assert (done.written, done.kept, done.carried) == (1, 11, 1)
    assert found_in(tmp_path / "out") == found_in(tmp_path / "whole")
    for name in found_in(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_source_is_another_copy(tmp_path):
    value = coco_tree(tmp_path / "coco")
    copy(tmp_path / "coco", tmp_path / "out")
    coco_tree(tmp_path / "coco", annotations=value["annotations"][:1])
    with pytest.raises(RunMismatchError, match=r"other settings: fingerprints"):
        copy(tmp_path / "coco", tmp_path / "out")


def test_the_manifest_says_what_it_is(tmp_path):
    coco_tree(tmp_path / "coco")
    copy(tmp_path / "coco", tmp_path / "out", seed=7)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["layout"] == "coco"
    assert (manifest["seed"], manifest["images"], manifest["encoder"]) == (7, 3, "png")
    assert len(manifest["fingerprints"]["images"]) == 32
    assert manifest["fingerprints"]["images"] != manifest["fingerprints"]["other files"]


def test_texts_are_copied_and_other_files_linked_to_the_first_cell(tmp_path, monkeypatch):
    root = cityscapes_tree(tmp_path / "cs")
    copy(root, tmp_path / "out")
    label = "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"
    text = label.replace("labelIds.png", "polygons.json")
    assert len({(tmp_path / "out" / cell / label).stat().st_ino for cell in CELLS}) == 1
    assert len({(tmp_path / "out" / cell / text).stat().st_ino for cell in CELLS}) == 4
    assert (root / label).stat().st_nlink == 1

    # Where the disk has no links they are copies.
    def refuse(*_):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    copy(root, tmp_path / "other")
    assert len({(tmp_path / "other" / cell / label).stat().st_ino for cell in CELLS}) == 4


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(tmp_path, monkeypatch):
    coco_tree(tmp_path / "coco")
    whole = files.ErrorRecordingFile.write
    left = [3000]

    def write(self, data):
        left[0] -= len(data)
        if left[0] < 0:
            raise self_failed(self)
        return whole(self, data)

    def self_failed(target):
        target.failure = OSError(errno.ENOSPC, "No space left on device")
        return target.failure

    monkeypatch.setattr(files.ErrorRecordingFile, "write", write)
    with pytest.raises(RunError, match="The disk is full"):
        copy(tmp_path / "coco", tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*.part"))
    copy(tmp_path / "coco", tmp_path / "out")
    copy(tmp_path / "coco", tmp_path / "whole")
    assert found_in(tmp_path / "out") == found_in(tmp_path / "whole")


# ---------------------------------------------------------------- webdataset


def add(tar, name, data, **more):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mtime = 1_600_000_000
    for key, value in more.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(data))


def shard(path, tmp_path, *, broken=False, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number in (first, first + 1):
            photo = photograph(tmp_path / "photos" / f"{number}.jpg", number)
            add(tar, f"{number:04}.json", b'{"boxes": []}')
            add(tar, f"{number:04}.jpg", b"no" if broken and number else photo.read_bytes())
            mask = photograph(tmp_path / "masks" / f"{number}.png", number)
            add(tar, f"{number:04}.seg.png", mask.read_bytes())
            add(tar, f"{number:04}.cls", b"7")
    return path


def members(path):
    with tarfile.open(path) as tar:
        return [(m.name, m.mtime, tar.extractfile(m).read() if m.isreg() else None) for m in tar]


@pytest.mark.parametrize("workers", [0, 2])
def test_tars_keep_their_order_and_all_but_the_images(tmp_path, workers):
    wds = tmp_path / "wds"
    shard(wds / "train" / "00.tar", tmp_path)
    shard(wds / "train" / "01.tar", tmp_path, first=2)
    (wds / "dataset.json").write_text("{}")
    done = copy(wds, tmp_path / "out", workers=workers)
    assert (done.written, done.kept, done.carried) == (16, 0, 4)
    old = members(wds / "train" / "01.tar")
    new = members(tmp_path / "out" / "contrast" / "3" / "train" / "01.tar")
    assert [name for name, _, _ in new] == [
        "0002.json", "0002.png", "0002.seg.png", "0002.cls",
        "0003.json", "0003.png", "0003.seg.png", "0003.cls",
    ]  # fmt: skip
    for (name, mtime, data), (old_name, old_mtime, old_data) in zip(new, old, strict=True):
        assert mtime == old_mtime
        assert (data == old_data) == (old_name == name)
    clean = pixels(io.BytesIO(old[1][2]))
    expected = corrupt(clean, "contrast", severity=3, key="train/01.tar/0002.jpg")
    np.testing.assert_array_equal(pixels(io.BytesIO(new[1][2])), expected)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["layout"], manifest["tars"]) == ("webdataset", 2)
    (tmp_path / "out" / "contrast" / "3" / "train" / "01.tar").unlink()
    again = copy(wds, tmp_path / "out", workers=workers)
    assert (again.written, again.kept) == (2, 7)
    assert members(tmp_path / "out" / "contrast" / "3" / "train" / "01.tar") == new


def test_one_tar_with_a_broken_image_a_link_and_a_long_name(tmp_path):
    path = shard(tmp_path / "a.tar", tmp_path, broken=True)
    photo = photograph(tmp_path / "photos" / "x.jpg", 3).read_bytes()
    long = "folder/" * 30 + "x"
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "link", b"", type=tarfile.SYMTYPE, linkname="0000.jpg")
        add(tar, f"{long}.jpg", photo)
    done = copy(path, tmp_path / "out", image_format="png")
    assert done.broken == {"a.tar/0001.jpg": "a.tar/0001.jpg: not an image that can be decoded."}
    names = [name for name, _, _ in members(tmp_path / "out" / CELLS[0] / "a.tar")]
    assert "0001.png" not in names
    assert names[-3:] == ["0001.cls", "link", f"{long}.png"]
    kept = copy(path, tmp_path / "same", image_format="source")
    assert kept.written == 8
    assert [n for n, _, _ in members(tmp_path / "same" / CELLS[0] / "a.tar")][1] == "0000.jpg"


def test_a_damaged_tar_is_named_and_leaves_nothing(tmp_path):
    good = shard(tmp_path / "wds" / "0.tar", tmp_path)
    (tmp_path / "wds" / "1.tar").write_bytes(good.read_bytes()[:2500])
    (tmp_path / "wds" / "2.tar").write_bytes(b"no tar")
    done = copy(tmp_path / "wds", tmp_path / "out")
    assert set(done.broken) == {"1.tar", "2.tar"}
    assert [n for n in found_in(tmp_path / "out") if n.endswith("tar")] == [
        f"{c}/0.tar" for c in CELLS
    ]
    assert not list((tmp_path / "out").rglob(".*.part"))


@pytest.mark.parametrize("left", [0, 300])
def test_a_tar_cut_where_a_member_ends_is_no_whole_one(left, tmp_path):
    # tarfile itself takes both for the end of the tar.
    whole = shard(tmp_path / "wds" / "0.tar", tmp_path)
    with tarfile.open(whole) as tar:
        second = tar.getmembers()[1]
    cut = whole.read_bytes()[: second.offset + left]
    (tmp_path / "wds" / "1.tar").write_bytes(cut)
    with tarfile.open(tmp_path / "wds" / "1.tar") as tar:
        assert len(tar.getmembers()) == 1
    done = copy(tmp_path / "wds", tmp_path / "out")
    assert "does not end with" in done.broken["1.tar"]
    assert {path.name for path in (tmp_path / "out").rglob("*.tar")} == {"0.tar"}


def test_of_tars_only_what_is_safe_and_clear_is_copied_and_the_rest_is_named(tmp_path):
    photo = photograph(tmp_path / "x.jpg").read_bytes()
    with tarfile.open(
        tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT
    ) as tar:
        add(tar, "a.jpg", photo)
        add(tar, "a.seg.png", photo)
        add(tar, "a.jpg", photo)
        add(tar, "é.jpg", photo)
        add(tar, "S.input.jpg", photo)
        add(tar, "inside", b"", type=tarfile.SYMTYPE, linkname="a.jpg")
        add(tar, "absolute", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "above", b"", type=tarfile.LNKTYPE, linkname="../../b")
        add(tar, "pipe", b"", type=tarfile.FIFOTYPE)
        add(tar, "disk", b"", type=tarfile.BLKTYPE)
    done = copy(tmp_path / "a.tar", tmp_path / "out")
    reasons = {name.removeprefix("a.tar/"): reason for name, reason in done.broken.items()}
    assert set(reasons) == {
        "a.jpg (2)", r"\udce9.jpg", "S.input.jpg", "absolute", "above", "pipe", "disk"
    }  # fmt: skip
    assert "unchanged" in reasons["S.input.jpg"]
    assert "left out" in reasons["absolute"]
    names = [name for name, _, _ in members(tmp_path / "out" / CELLS[0] / "a.tar")]
    assert names == ["a.png", "a.seg.png", "S.input.jpg", "inside"]
    assert done.written == len(CELLS)


def test_tars_whose_members_could_not_be_told_apart_or_leave(tmp_path):
    photo = photograph(tmp_path / "x.jpg").read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "0.jpg", photo)
        add(tar, "0.png", photo)
    with pytest.raises(InputError, match=r"0\.jpg and 0\.png would both be 0\.png"):
        copy(tmp_path / "a.tar", tmp_path / "out")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        add(tar, "../0.jpg", photo)
    with pytest.raises(InputError, match="which leaves it"):
        copy(tmp_path / "b.tar", tmp_path / "out")


def test_a_split_of_yolo_data_whose_path_leads_elsewhere_is_copied_with_its_root(tmp_path):
    (tmp_path / "other").mkdir()
    config = yolo_tree(tmp_path / "yolo", extra=f"path: {tmp_path / 'other'}\n")
    result = copy(config, tmp_path / "out", split="test", root=config.parent)
    names = found_in(tmp_path / "out" / "contrast" / "1" / "images")
    assert names == ["val/a.png", "val/c.png"]
    assert "1 image of other splits: left out" in result.omissions


# ---------------------------------------------------------------- the estimate


@pytest.mark.parametrize("sampled", [1, 12])
def test_the_estimate_is_near_what_is_written_and_writes_nothing(tmp_path, monkeypatch, sampled):
    monkeypatch.setattr(estimate, "SAMPLED_IMAGES", sampled)
    coco_tree(tmp_path / "coco")
    settings = {"corruptions": ["brightness", "contrast"], "severities": [1, 3], "workers": 2}
    estimated = estimate_export(tmp_path / "coco", tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    assert (estimated.layout, estimated.images, estimated.cells, estimated.carried) == (
        "coco",
        3,
        4,
        1,
    )
    assert estimated.sampled == ("val2017/30.png", "val2017/9.jpg", "val2017/sub/12.jpg")[:sampled]
    assert estimated.seconds == estimated.cpu_seconds / 2 > 0
    assert 0 < estimated.free_bytes <= shutil.disk_usage(tmp_path).total
    copy(tmp_path / "coco", tmp_path / "out")
    written = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*.*") if p.is_file())
    assert estimated.bytes == pytest.approx(written, rel=0.2)


def test_the_estimate_of_tars_and_of_what_is_linked(tmp_path):
    shard(tmp_path / "wds" / "0.tar", tmp_path)
    settings = {"corruptions": ["brightness", "contrast"], "severities": [1, 3]}
    estimated = estimate_export(tmp_path / "wds", tmp_path / "out", **settings)
    assert (estimated.layout, estimated.images, estimated.cells) == ("webdataset", 2, 4)
    copy(tmp_path / "wds", tmp_path / "out")
    written = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*.tar"))
    # A tar ends with up to 10 kB of zeros.
    assert written - 4 * 10240 - 4 * 2 * 1024 <= estimated.bytes <= written
    root = cityscapes_tree(tmp_path / "cs")
    label = next(root.rglob("*labelIds.png")).stat().st_size
    text = next(root.rglob("*.json")).stat().st_size
    tree = open_tree(root)
    assert estimate._count_carried_bytes(tree, 4) == label + 4 * text


def test_the_estimate_finds_the_depth_maps_of_the_images(tmp_path):
    image = pixels(photograph(tmp_path / "photos" / "a.jpg"))
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.full(image.shape[:2], 3.0))
    fog = with_depth("fog_3d", DepthFolder(tmp_path / "depth"))
    settings = {"corruptions": {"fog_3d": fog}, "severities": [2], "workers": 0}
    estimated = estimate_export(tmp_path / "photos", tmp_path / "out", **settings)
    assert (estimated.images, estimated.sampled) == (1, ("a.jpg",))


def test_an_estimate_without_any_readable_image(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="none of the images tried"):
        estimate_export(tmp_path / "a", tmp_path / "o", corruptions=["fog"], severities=[1])
