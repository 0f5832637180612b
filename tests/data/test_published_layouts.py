"""The published relatives of ImageNet, as small trees of the layout that their archives unpack to."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from shiftproof.classes import imagenet, label_set, name_classes
from shiftproof.data import CorruptedTree, ImageFolder, check_labels, open_data
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.models import Classifier, Preprocess


def find_label_file(data):
    return {sample.id: sample.label for sample in data.samples}


def read_class_names(data):
    return {sample.id: data.classes.names[sample.label] for sample in data.samples}


# ---------------------------------------------------------------- all 1,000 classes


def test_imagenet_v2_counts_its_folders_and_does_not_spell_them(tmp_path, photo):
    root = tmp_path / "imagenetv2-matched-frequency-format-val"
    for folder in ("0", "1", "2", "10", "100", "999"):
        photo(root / folder / "a.jpeg")
    data = open_data(root, classes=imagenet())
    # In the order of letters "10" and "100" come before "2".
    assert find_label_file(data) == {
        f"{index}/a.jpeg": index for index in (0, 1, 2, 10, 100, 999)
    }  # fmt: skip


def test_imagenet_sketch_has_wordnet_ids(tmp_path, photo):
    photo(tmp_path / "sketch" / "n01440764" / "sketch_0.JPEG")
    photo(tmp_path / "sketch" / "n15075141" / "sketch_1.JPEG")
    data = open_data(tmp_path / "sketch", classes=imagenet())
    assert list(find_label_file(data).values()) == [0, 999]


def test_tiny_imagenet_c_is_a_tree(tmp_path, photo):
    classes = name_classes(["n01443537", "n01629819"])
    for severity in ("1", "5"):
        photo(tmp_path / "Tiny-ImageNet-C" / "fog" / severity / "n01629819" / "test_3.JPEG")
    data = open_data(tmp_path / "Tiny-ImageNet-C", classes=classes)
    assert type(data) is CorruptedTree
    assert find_label_file(data) == {"n01629819/test_3.JPEG": 1}


# ---------------------------------------------------------------- 200 of the classes


@pytest.mark.parametrize(
    ("name", "folders"),
    # Places among the 200, from the lists of the authors' evaluation code.
    [("imagenet-a", {"n01498041": 0, "n01531178": 1, "n12267677": 199}),
     ("imagenet-r", {"n01443537": 0, "n01484850": 1, "n12267677": 199})],
)  # fmt: skip
def test_a_and_r_are_labeled_among_their_own_classes(tmp_path, photo, name, folders):
    for folder in folders:
        photo(tmp_path / name / folder / "a.jpg")
    data = open_data(tmp_path / name, classes=label_set(name))
    assert {key.split("/")[0]: label for key, label in find_label_file(data).items()} == folders
    assert data.classes is label_set(name).classes
    assert data.folders_left_out == {}
    photo(tmp_path / name / "n01440764" / "a.jpg")  # tench, in neither
    with pytest.raises(LabelError, match=r"only 3 of the 4 class folders\. Unknown: n01440764"):
        open_data(tmp_path / name, classes=label_set(name))


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_exactly_their_folders_hint_at_the_label_set(tmp_path, photo, name):
    ids = label_set(name).classes.wordnet_ids
    for folder in ids:
        photo(tmp_path / folder / "a.png")
    data = ImageFolder(tmp_path, imagenet())
    assert f"exactly the 200 classes of {name}" in data.hint
    assert f"model.restrict(label_set('{name}'))" in data.hint
    assert ImageFolder(tmp_path, label_set(name)).hint is None
    assert ImageFolder(tmp_path).hint is None
    photo(tmp_path / "n01440764" / "a.png")
    assert ImageFolder(tmp_path, imagenet()).hint is None


# ---------------------------------------------------------------- maps of folders


def test_imagenet_d_is_a_domain_of_domainnet(tmp_path, photo):
    for folder in ("mug", "cup", "dog", "zebra", "The_Eiffel_Tower", "giraffe"):
        photo(tmp_path / "domainnet" / "clipart" / folder / "clipart_000001.jpg")
    photo(tmp_path / "domainnet" / "clipart" / "giraffe" / "clipart_000002.jpg")
    data = open_data(tmp_path / "domainnet" / "clipart", classes=label_set("imagenet-d"))
    assert {key.split("/")[0]: name for key, name in read_class_names(data).items()} == {
        "mug": "cup", "cup": "cup", "dog": "dog", "zebra": "zebra",
    }  # fmt: skip
    assert data.folders_left_out == {"The_Eiffel_Tower": 1, "giraffe": 2}
    assert data.settings()["images of no class"] == 3
    with pytest.raises(LabelError, match=r"one level deeper: give \S+domainnet/clipart"):
        open_data(tmp_path / "domainnet", classes=label_set("imagenet-d"))
    photo(tmp_path / "domainnet" / "clipart" / "zebbra" / "a.jpg")
    with pytest.raises(LabelError, match="Unknown: zebbra"):
        open_data(tmp_path / "domainnet" / "clipart", classes=label_set("imagenet-d"))


def framed(path, inside=100, size=(9, 8)):
    """As ObjectNet has them: two red pixels around the image."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255
    image[2:-2, 2:-2] = inside
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_objectnet_loses_its_frame_and_its_other_classes(tmp_path):
    root = tmp_path / "objectnet-1.0" / "images"
    for folder in ("alarm_clock", "hand_towel_or_rag", "t-shirt", "squeegee"):
        framed(root / folder / "0a1b.png")
    data = open_data(root, classes=label_set("objectnet"))
    assert {key.split("/")[0]: name for key, name in read_class_names(data).items()} == {
        "alarm_clock": "Alarm clock", "hand_towel_or_rag": "Dishrag or hand towel",
        "t-shirt": "T-shirt",
    }  # fmt: skip
    assert data.folders_left_out == {"squeegee": 1}
    assert data.settings()["pixels cut off each side"] == 2
    image = data.read(data.samples[0])
    assert image.shape == (4, 5, 3)
    assert (image == 100).all()
    assert image.flags.c_contiguous


def test_an_image_that_is_all_frame_is_broken(tmp_path):
    framed(tmp_path / "mug" / "a.png", size=(4, 9))
    data = open_data(tmp_path, classes=label_set("objectnet"))
    with pytest.raises(
        BrokenFileError, match=r"^mug/a\.png: 9 x 4 pixels are not larger than the frame"
    ):
        data.read(data.samples[0])


def test_only_folders_that_are_left_out_are_refused(tmp_path, photo):
    photo(tmp_path / "squeegee" / "a.png")
    with pytest.raises(LabelError, match=r"none of the 1 class folder is .* objectnet"):
        open_data(tmp_path, classes=label_set("objectnet"))


def test_a_class_map_goes_before_what_is_left_out(tmp_path, photo):
    photo(tmp_path / "giraffe" / "a.png")
    data = ImageFolder(tmp_path, label_set("imagenet-d"), class_map={"giraffe": "zebra"})
    assert read_class_names(data) == {"giraffe/a.png": "zebra"}


def test_without_labels_nothing_is_left_aside(tmp_path, photo):
    photo(tmp_path / "squeegee" / "a.png")
    data = ImageFolder(tmp_path, label_set("objectnet"), labeled=False)
    assert (len(data), data.classes, data.folders_left_out) == (1, None, {})


def test_a_corrupted_copy_of_such_a_data_set(tmp_path):
    for cell, level in (("fog/1", 10), ("fog/3", 30), ("clean", 0)):
        framed(tmp_path / cell / "mug" / "a.png", level)
        framed(tmp_path / cell / "squeegee" / "a.png", level)
    (tmp_path / "fog" / "3" / "squeegee" / "a.png").unlink()
    data = open_data(tmp_path, classes=label_set("objectnet"))
    assert [sample.id for sample in data.samples] == ["mug/a.png"]
    assert data.folders_left_out == {"squeegee": 1}
    assert data.missing == {}
    for cell, level in zip(data.cells, (10, 30), strict=True):
        image = data.read_cell(data.samples[0], cell)
        assert image.shape == (4, 5, 3)
        assert (image == level).all()
    assert (data.read(data.samples[0]) == 0).all()


# ---------------------------------------------------------------- with a model


def test_what_is_labeled_and_what_is_predicted_meet(tmp_path, photo):
    """A network that always says "coffee mug" is right about no cup of ImageNet-D but on ObjectNet."""
    coffee_mug = imagenet().index("coffee mug")

    class Says(nn.Module):
        def forward(self, images):
            return torch.eye(1000)[coffee_mug].repeat(len(images), 1)

    model = Classifier(Says(), Preprocess((8, 8), 8), imagenet())
    framed(tmp_path / "mug" / "a.png", size=(12, 12))
    answers = {}
    for name in ("objectnet", "imagenet-d"):
        data = open_data(tmp_path, classes=label_set(name))
        restricted = model.restrict(label_set(name))
        check_labels(data, restricted.classes)
        image = restricted.preprocess.geometry(data.read(data.samples[0]))
        best = int(restricted.predict(image[None]).argmax())
        answers[name] = (restricted.classes.names[best], best == data.samples[0].label)
    assert answers == {"objectnet": ("Mug", True), "imagenet-d": ("none of these", False)}


def test_labels_of_other_classes_than_the_models_are_refused(tmp_path, photo):
    photo(tmp_path / "n01443537" / "a.png")
    data = open_data(tmp_path, classes=label_set("imagenet-r"))
    assert open_data(data, classes=label_set("imagenet-r")) is data
    for classes in (imagenet(), label_set("imagenet-a")):
        with pytest.raises(LabelError, match=r"classes of imagenet-r \(200\), but the model has"):
            open_data(data, classes=classes)


def test_a_label_set_needs_class_folders(tmp_path, photo):
    photo(tmp_path / "mug" / "a.png")
    (tmp_path / "list.csv").write_text("mug/a.png,mug\n")
    with pytest.raises(InputError, match="no class folders, which the label set objectnet needs"):
        open_data(tmp_path / "list.csv", classes=label_set("objectnet"))


def test_a_folder_that_spells_two_classes_says_which(tmp_path, photo):
    photo(tmp_path / "crane" / "a.png")
    photo(tmp_path / "goldfish" / "a.png")
    with pytest.raises(
        LabelError,
        match=r"the class folder 'crane' spells 2 classes: crane bird \(134, n02012849\)",
    ):
        ImageFolder(tmp_path, imagenet())
    data = ImageFolder(tmp_path, imagenet(), class_map={"crane": "n02012849"})
    assert find_label_file(data) == {"crane/a.png": 134, "goldfish/a.png": 1}
    (tmp_path / "list.csv").write_text("crane/a.png,crane\n")
    with pytest.raises(LabelError, match=r"line 1: 'crane' spells 2 classes"):
        open_data(tmp_path / "list.csv", classes=imagenet())
