"""Datasets with label maps: their layouts, what the numbers mean, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import (
    check_masks,
    export_corrupted,
    find_dataset,
    open_segmentation_data,
)
from shiftproof.embed import open_pictures
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.models.segmenters.label_spaces import (
    ade20k,
    cityscapes_ids,
    cityscapes_train_ids,
    read_space,
    voc,
)
from support.label_map_trees import NAMES, save, scene, write_folders, write_names

IMAGE, LABELS = scene(0)


def write_cityscapes(root, ending="labelTrainIds", labels=LABELS):
    name = "aachen/aachen_000000_000019"
    save(root / f"leftImg8bit/val/{name}_leftImg8bit.png", IMAGE)
    save(root / f"gtFine/val/{name}_gtFine_{ending}.png", labels)
    return root


def write_voc(root):
    for name in ("2007_000032", "2007_000039"):
        save(root / f"VOC2012/JPEGImages/{name}.png", IMAGE)
    save(root / "VOC2012/SegmentationClass/2007_000032.png", LABELS, palette=True)
    lists = root / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_000032\n")
    return root


def write_ade20k(root):
    save(root / "images/validation/ADE_val_1.png", IMAGE)
    save(root / "annotations/validation/ADE_val_1.png", np.where(LABELS == 255, 0, LABELS + 1))
    return root


def write_acdc(root):
    for condition in ("fog", "night"):
        inner = f"{condition}/val/GOPR0475/GOPR0475_1"
        save(root / f"rgb_anon/{inner}_rgb_anon.png", IMAGE)
        save(root / f"gt/{inner}_gt_labelTrainIds.png", LABELS)
        save(root / f"rgb_anon/{condition}/val_ref/GOPR0475/GOPR0475_1_rgb_ref_anon.png", IMAGE)
    return root


def write_foggy(root):
    for beta in ("0.005", "0.02"):
        name = f"leftImg8bit_foggy/val/aachen/aachen_0_0_leftImg8bit_foggy_beta_{beta}.png"
        save(root / name, IMAGE)
    for number in (0, 1):
        save(root / f"gtFine/val/aachen/aachen_0_{number}_gtFine_labelTrainIds.png", LABELS)
    return root


LAYOUTS = [
    (write_cityscapes, "Cityscapes", 19, "leftImg8bit/val/"),
    (write_voc, "Pascal VOC, SegmentationClass", 21, "VOC2012/JPEGImages/"),
    (write_ade20k, "ADE20K", 150, "images/validation/"),
    (write_acdc, "ACDC", 19, "rgb_anon/"),
    (write_foggy, "Foggy or Rainy Cityscapes", 19, "leftImg8bit_foggy/"),
]


@pytest.mark.parametrize(("write", "title", "classes", "folder"), LAYOUTS)
def test_each_layout_is_found_by_its_marks(write, title, classes, folder, tmp_path):
    data = open_segmentation_data(write(tmp_path / "data"))
    assert len(data.classes) == classes
    assert all(sample.id.startswith(folder) for sample in data.samples)
    for sample in data.samples:
        truth = data.read_mask(sample)
        assert truth.dtype == np.int16
        # The map was written with 0, 1, 2 and void, whatever the layout calls these.
        assert np.array_equal(truth, np.where(LABELS == 255, -1, LABELS.astype(np.int16)))
    found = find_dataset(tmp_path / "data")
    assert found.sentences[0].startswith(title)
    assert set(found.images) >= {sample.id for sample in data.samples}


def test_raw_ids_of_cityscapes_become_its_19_classes(tmp_path):
    raw = np.array([[7, 26, 0, 29], [33, 3, 255, 10]], np.uint8)
    root = write_cityscapes(tmp_path, "labelIds", np.kron(raw, np.ones((12, 9), np.uint8)))
    data = open_segmentation_data(root)
    truth = data.read_mask(data.samples[0])[::12, ::9]
    # road 0, car 13, unlabeled, caravan; bicycle 18, out of roi, void, rail track.
    assert truth.tolist() == [[0, 13, -1, -1], [18, -1, -1, -1]]


def test_the_table_of_cityscapes_is_the_published_one():
    helpers = pytest.importorskip("cityscapesscripts.helpers.labels")
    space = cityscapes_ids()
    for label in helpers.labels:
        if label.id < 0:
            continue
        if label.trainId == 255:
            assert label.id in space.void
        else:
            assert space.index_of[label.id] == label.trainId
            assert cityscapes_train_ids().classes.names[label.trainId] == label.name


def test_the_lists_of_ade20k_and_voc_have_their_known_classes():
    names = ade20k().classes.names
    assert [names[index] for index in (0, 2, 12, 20, 149)] == [
        "wall",
        "sky",
        "person",
        "car",
        "flag",
    ]
    assert ade20k().to_classes(np.array([[0, 1, 150]])).tolist() == [[-1, 0, 149]]
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.segmentation.FCN_ResNet50_Weights.DEFAULT.meta["categories"]
    assert list(voc().classes.names[1:]) == theirs[1:]


def test_conditions_are_kept_and_can_be_chosen(tmp_path):
    data = open_segmentation_data(write_acdc(tmp_path / "acdc"))
    assert sorted(data.conditions.values()) == ["fog", "night"]
    assert len(open_segmentation_data(tmp_path / "acdc", condition="night")) == 1
    foggy = write_foggy(tmp_path / "foggy")
    assert set(open_segmentation_data(foggy).conditions.values()) == {
        "foggy_beta_0.005", "foggy_beta_0.02",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"Unknown condition 'fog'.*foggy_beta_0\.005"):
        open_segmentation_data(foggy, condition="fog")


def test_cityscapes_with_its_fog_is_measured_clear_unless_asked(tmp_path):
    root = write_foggy(write_cityscapes(tmp_path))
    save(root / "leftImg8bit/val/aachen/aachen_0_0_leftImg8bit.png", IMAGE)
    save(root / "leftImg8bit/val/aachen/aachen_0_1_leftImg8bit.png", IMAGE)
    assert len(open_segmentation_data(root)) == 3
    assert len(open_segmentation_data(root, condition="foggy_beta_0.02")) == 1
    assert len(open_segmentation_data(root, condition="all")) == 5


def test_both_forms_of_foggy_cityscapes_are_told_apart(tmp_path):
    root = write_foggy(tmp_path)
    for folder in (root / "leftImg8bit_foggy", root / "leftImg8bit_foggyDBF"):
        name = "aachen_0_0_leftImg8bit_foggy_beta_0.02.png"
        save(folder / "val/aachen" / name, IMAGE)
    data = open_segmentation_data(root, condition="foggyDBF_beta_0.02")
    folder = "leftImg8bit_foggyDBF/val/aachen"
    assert [sample.id for sample in data.samples] == [f"{folder}/{name}"]


def test_patterns_of_rain_are_one_condition(tmp_path):
    for pattern in (1, 2):
        name = f"aachen_0_0_leftImg8bit_rain_alpha_0.01_beta_0.005_dropsize_0.01_pattern_{pattern}"
        save(tmp_path / f"leftImg8bit_rain/val/aachen/{name}.png", IMAGE)
    save(tmp_path / "gtFine/val/aachen/aachen_0_0_gtFine_labelTrainIds.png", LABELS)
    data = open_segmentation_data(tmp_path)
    assert set(data.conditions.values()) == {"rain_alpha_0.01_beta_0.005_dropsize_0.01"}
    assert len(data) == 2


def test_two_folders_are_paired_by_name(tmp_path):
    root = write_folders(tmp_path / "data")
    names = write_names(tmp_path / "names.txt")
    inside = open_segmentation_data(root, classes=names)
    assert inside.classes.names == NAMES
    apart = open_segmentation_data(root / "images", masks=root / "masks", classes=names)
    assert [sample.id for sample in apart.samples] == ["0.png", "1.png", "2.png", "3.png"]
    for one, other in zip(inside.samples, apart.samples, strict=True):
        assert np.array_equal(inside.read_mask(one), apart.read_mask(other))
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert len(open_segmentation_data(root, classes=names)) == 4


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("png", "0.png: expected a label map, one number per pixel, got an image of mode RGB"),
        ("jpg", "0.jpg: expected a label map in a lossless format, got JPEG"),
    ],
)
def test_painted_masks_beside_images_are_refused_by_what_is_wrong(suffix, message, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(IMAGE).save(tmp_path / folder / f"0.{suffix}")
    with pytest.raises(BrokenFileError, match=message):
        open_segmentation_data(tmp_path)


def test_a_folder_of_labels_without_images_is_not_one_of_label_maps(tmp_path):
    for folder in ("images", "labels"):  # of YOLO
        (tmp_path / folder).mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images" / "0.jpg")
    (tmp_path / "labels" / "0.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match="is not a dataset with label maps: expected leftImg8bit"):
        open_segmentation_data(tmp_path)


def test_numbers_are_classes_where_nothing_names_them(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path / "data"))
    assert data.classes.names == ("0", "1", "2")


def test_a_csv_file_names_numbers(tmp_path):
    (tmp_path / "names.csv").write_text("number,name\n7,road\n8,road\n255,sky\n")
    space = read_space(tmp_path / "names.csv", (255, 0))
    assert space.classes.names == ("road", "sky")
    assert space.to_classes(np.array([[7, 8, 255, 0]])).tolist() == [[0, 0, 1, -1]]
    (tmp_path / "wrong.csv").write_text('7,road\n\n"7",sky\n')
    with pytest.raises(BrokenFileError, match=r"wrong.csv, line 3: expected a number"):
        read_space(tmp_path / "wrong.csv", ())


def test_numbers_that_mean_nothing_are_named():
    with pytest.raises(LabelError, match="2 pixels with the number 19, which is no class of Citys"):
        cityscapes_train_ids().to_classes(np.array([[19, 19, 0]]))
    with pytest.raises(LabelError, match="1 pixel with the number -1"):
        cityscapes_train_ids().to_classes(np.array([[-1, 0]]))


def damaged(tmp_path, change):
    root = write_folders(tmp_path / "data")
    change(root)
    data = open_segmentation_data(root, classes=list(NAMES))
    check_masks(data, show_progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "masks/1.png").unlink(), "1 image has no label map.*images/1.png"),
        (lambda root: (root / "images/1.png").unlink(), "1 label map has no image.*masks/1.png"),
        (
            lambda root: save(root / "masks/1.png", LABELS[:-1]),
            "masks/1.png: 36 x 23 pixels, but its image images/1.png has 36 x 24",
        ),
        (
            lambda root: save(root / "masks/1.png", np.full_like(LABELS, 9)),
            "masks/1.png: 864 pixels with the number 9, which is no class of the given classes",
        ),
        (
            lambda root: save(root / "masks/1.png", IMAGE),
            "masks/1.png: expected a label map, one number per pixel, got an image of mode RGB",
        ),
        (lambda root: (root / "masks/1.png").write_bytes(b"x"), "masks/1.png: not an image"),
        (
            lambda root: [save(p, np.full_like(LABELS, 255)) for p in (root / "masks").iterdir()],
            "no pixel of its 4 label maps counts; all are void",
        ),
    ],
)
def test_what_does_not_fit_is_said(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        damaged(tmp_path, change)


def test_pixels_are_counted(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path), classes=list(NAMES))
    counts = check_masks(data, show_progress=False)
    by_hand = [sum((scene(n)[1] == k).sum() for n in range(4)) for k in range(3)]
    assert counts.pixels.tolist() == by_hand
    assert counts.images.tolist() == [4, 4, 4]


def test_a_split_of_data_without_splits_is_refused(tmp_path):
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / "own" / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "own" / folder / f"a.{suffix}")
    with pytest.raises(InputError, match=r"own \(.*\) has no splits: leave out the split 'val'"):
        open_segmentation_data(tmp_path / "own", split="val")


def test_a_split_or_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_segmentation_data(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not a dataset with label maps: expected leftImg8bit"):
        open_segmentation_data(tmp_path)
    root = write_voc(tmp_path / "voc")
    (root / "VOC2012/ImageSets/Segmentation/train.txt").write_text("2007_000039\n")
    with pytest.raises(InputError, match=r"no split 'test'; it has train, val"):
        open_segmentation_data(root, split="test")
    with pytest.raises(InputError, match=r"1 image has no label map.*2007_000039"):
        open_segmentation_data(tmp_path / "voc", split="train")
    with pytest.raises(InputError, match="whose classes are known"):
        open_segmentation_data(tmp_path / "voc", classes=["a"])


@pytest.mark.parametrize("write", [write_voc, write_ade20k, write_acdc, write_cityscapes])
def test_corrupted_copies_have_the_same_label_maps(write, tmp_path):
    root = write(tmp_path / "data")
    export_corrupted(
        root, tmp_path / "copy", corruptions=["brightness"], severities=[3], workers=0,
        show_progress=False,
    )  # fmt: skip
    data = open_segmentation_data(root)
    copy = open_segmentation_data(tmp_path / "copy/brightness/3")
    assert [sample.id for sample in copy.samples] == [sample.id for sample in data.samples]
    for sample in data.samples:
        assert np.array_equal(copy.read_mask(sample), data.read_mask(sample))
        assert not np.array_equal(copy.read(sample), data.read(sample))


def test_masks_beside_images_are_carried_over_and_not_corrupted(tmp_path):
    root = write_folders(tmp_path / "data")
    done = export_corrupted(
        root, tmp_path / "copy", corruptions=["fog"], severities=[1], workers=0, show_progress=False
    )
    assert done.omissions == ["4 label maps and other images, in masks/: carried over as they are"]
    for number in range(4):
        name = f"masks/{number}.png"
        assert (tmp_path / "copy/fog/1" / name).read_bytes() == (root / name).read_bytes()


def test_images_of_all_conditions_are_embedded_and_no_label_maps(tmp_path):
    pictures = open_pictures(write_acdc(tmp_path / "acdc"))
    assert [picture.name for picture in pictures.part(0).pictures] == [
        "rgb_anon/fog/val/GOPR0475/GOPR0475_1_rgb_anon.png",
        "rgb_anon/night/val/GOPR0475/GOPR0475_1_rgb_anon.png",
    ]


def test_some_of_the_images_are_told_apart_as_among_all(tmp_path):
    data = open_segmentation_data(write_folders(tmp_path, 5))
    few = data.narrow(data.samples[1:3], "two of them")
    assert few.content_fingerprints() == data.content_fingerprints()[1:3]
    assert few.settings()["images"] == 2
