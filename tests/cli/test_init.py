"""`shiftproof init`: it looks at a model and data, and what it writes runs as it stands."""

import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from shiftproof import cli
from shiftproof.cli import config, init
from shiftproof.cli.first_settings import (
    Inspected,
    find_architecture,
    inspect_data,
    name_classes,
    write_settings,
)
from shiftproof.cli.verbs import VERBS, load_verb
from shiftproof.io.toml import read_toml


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "1.png")
    module = torchvision.models.squeezenet1_1(num_classes=2)
    torch.save({"arch": "squeezenet1_1", "state_dict": module.state_dict()}, tmp_path / "mine.pt")
    return tmp_path


def read(folder):
    return read_toml(folder / "shiftproof.toml")


def test_what_it_writes_is_read_by_the_verb_that_it_names(folder, capsys):
    assert cli.run(["init", "--model", "mine.pt", "--data", "photos"]) == 0
    output = capsys.readouterr().out
    assert "2 numbered classes" in output
    assert "a plain folder of images, photos, 2 images" in output
    assert read(folder) == {
        "bench": {
            "model": "file:mine.pt?arch=torchvision:squeezenet1_1", "data": "photos", "out": "run",
            "classes": "classes.txt",
        }
    }  # fmt: skip
    assert "labels: its 2 folders (cat, dog)" in output
    assert "numbered classes" not in (folder / "shiftproof.toml").read_text()
    assert (folder / "classes.txt").read_text() == "cat\ndog\n"
    assert "as in torchvision's ImageFolder" in " ".join(output.split())
    words = ["--dry-run", "--corruptions", "fog", "--severities", "1", "--workers", "0"]
    assert cli.run(["bench", *words]) == 0
    assert "2 images in 2 cells, 1 model" in capsys.readouterr().out


def test_each_line_that_is_commented_out_is_an_option_of_its_verb(folder):
    for task, verb in (("classification", "bench"), ("detection", "detect"),
                       ("segmentation", "segment")):  # fmt: skip
        text = write_settings(Inspected("m"), Inspected("d"), task)
        (folder / "shiftproof.toml").write_text(re.sub(r"(?m)^# (?=[\w-]+ = )", "", text))
        defaults = config.read_defaults(load_verb(verb), list(VERBS), load_verb)
        assert {"model", "data", "out", "corruptions", "severities", "device"} <= set(defaults)


def test_a_file_is_named_with_its_options_as_it_is_without(folder):
    assert cli.run(["init", "--model", "mine.pt?size=64", "--data", "photos"]) == 0
    expected = "file:mine.pt?arch=torchvision:squeezenet1_1&size=64"
    assert read(folder)["bench"]["model"] == expected
    typed = "mine.pt?arch=torchvision:squeezenet1_1"
    assert cli.run(["init", "--model", typed, "--data", "photos", "--force"]) == 0
    assert read(folder)["bench"]["model"] == f"file:{typed}"


@pytest.mark.parametrize(
    ("folders", "is_told"), [(("cat", "dog"), True), (("tabby", "cat"), False)]
)
def test_folders_that_are_no_classes_of_a_librarys_model_are_told(folder, capsys, folders, is_told):
    for old, new in zip(("cat", "dog"), folders, strict=True):
        (folder / "photos" / old).rename(folder / "photos" / f"{new}-")
    for new in folders:
        (folder / "photos" / f"{new}-").rename(folder / "photos" / new)
    assert cli.run(["init", "--model", "timm:resnet50", "--data", "photos"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert ("None of these folders is a class of ImageNet" in output) == is_told
    assert read(folder)["bench"]["model"] == "timm:resnet50"


def test_a_damaged_file_is_not_said_to_be_of_another_task(folder, capsys):
    (folder / "text.pt").write_text("hello\n")
    words = ["init", "--model", "text.pt?arch=torchvision:resnet18", "--data", "photos"]
    assert cli.run(words) == 2
    output = " ".join(capsys.readouterr().err.split())
    assert output.endswith(
        "not a checkpoint that can be read (neither a torch archive nor a pickle)."
    )


def test_names_in_the_checkpoint_need_no_file_of_classes(folder, capsys):
    content = {**torch.load(folder / "mine.pt"), "classes": ["dog", "cat"]}
    torch.save(content, folder / "mine.pt")
    assert cli.run(["init", "--model", "mine.pt", "--data", "photos"]) == 0
    assert "(names in the checkpoint)" in capsys.readouterr().out
    assert "classes" not in read(folder)["bench"]


def test_a_verb_without_a_model_points_to_init(folder, capsys):
    assert cli.run(["bench", "--data", "photos", "--out", "run"]) == 2
    assert "shiftproof init" in capsys.readouterr().err


def test_data_that_are_not_there_get_the_nearest_name(folder, capsys):
    assert cli.run(["data", "phtos"]) == 2
    assert "Did you mean 'photos'?" in capsys.readouterr().err


def test_a_file_that_is_there_stays(folder, capsys):
    (folder / "shiftproof.toml").write_text("# mine\n")
    words = ["init", "-m", "timm:resnet50", "-d", "photos"]
    assert cli.run(words) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert cli.run([*words, "--force"]) == 0
    assert read(folder)["bench"]["model"] == "timm:resnet50"


def test_without_a_terminal_it_says_which_options_are_missing(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli.run(["init", "--data", "photos"]) == 2
    assert "Expected --model: there is no terminal to ask on." in " ".join(
        capsys.readouterr().err.split()
    )
    assert not (folder / "shiftproof.toml").exists()


def test_on_a_terminal_it_asks_three_questions_and_asks_again(folder, capsys, monkeypatch):
    answers = iter(["photos", "mine.pt", "nowhere", "photos", "sleeping", "classification"])
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        init.typer, "prompt", lambda text, **_: (asked.append(text), next(answers))[1]
    )
    assert cli.run(["init"]) == 0
    assert asked == [init.MODEL] * 2 + [init.DATA] * 2 + [init.TASK] * 2
    output = " ".join(capsys.readouterr().err.split())
    assert "nowhere does not exist" in output
    assert "Unknown task 'sleeping'" in output
    assert read(folder)["bench"]["data"] == "photos"


def test_a_model_of_another_task_is_told_with_the_option(folder, capsys):
    assert cli.run(["init", "-m", "ultralytics:x.pt", "-d", "photos"]) == 2
    output = " ".join(capsys.readouterr().err.split())
    assert (
        "It was tried for classification; for another, --task detection or segmentation." in output
    )


def test_class_names_are_written_only_for_numbers_that_the_folders_match():
    numbered = Inspected("m", numbered=2)
    assert name_classes(numbered, Inspected("d", folders=("a", "b"))) == "a\nb\n"
    assert name_classes(numbered, Inspected("d", folders=("0", "1"))) == ""
    assert name_classes(numbered, Inspected("d", folders=("a", "b", "c"))) == ""
    assert name_classes(Inspected("m"), Inspected("d")) == ""


def test_the_task_follows_the_annotations(folder):
    (folder / "voc" / "JPEGImages").mkdir(parents=True)
    (folder / "voc" / "Annotations").mkdir()
    (folder / "photos" / "cat" / "1.png").rename(folder / "voc" / "JPEGImages" / "1.png")
    (folder / "voc" / "Annotations" / "1.xml").write_text(
        "<annotation><filename>1.png</filename><object><name>cat</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    assert inspect_data("voc").task == "detection"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("resnet18-f37072fd.pth", {}, "torchvision:resnet18"),
        ("best.pth", {"arch": "vit_tiny_patch16_224"}, "timm:vit_tiny_patch16_224"),
        ("best.pth", {}, None),
    ],
)
def test_the_architecture_is_what_the_file_or_its_name_says(folder, name, content, expected):
    torch.save({"w": torch.zeros(1), **content}, folder / name)
    if expected is None:
        with pytest.raises(ValueError, match="does not say which architecture"):
            find_architecture(folder / name)
    else:
        assert find_architecture(folder / name) == expected
