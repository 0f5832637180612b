"""``shiftproof stylize`` on the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.stylize import free, open_styles, stylize_keyed
from support.command import run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "coco" / "images").mkdir(parents=True)
    level = np.linspace(0, 255, 40 * 48 * 3).astype(np.uint8).reshape(40, 48, 3)
    Image.fromarray(level).save(tmp_path / "coco" / "images" / "a.png")
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": 48, "height": 40}],
        "annotations": [{"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "coco" / "boxes.json").write_text(json.dumps(value))
    return tmp_path / "coco"


@pytest.fixture
def styles(tmp_path):
    folder = tmp_path / "styles"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = rng.integers(0, 256, (30, 30, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


def test_it_writes_what_the_functions_give(coco, styles, tmp_path, capsys):
    words = ("stylize", coco, tmp_path / "out", "--styles", styles, "--seed", 3, "-w", 0)
    assert run(*words) == 0
    output = capsys.readouterr().out
    assert "1 image written to" in output
    assert "1 other file carried over" in output
    assert "stylize" in output.splitlines()[-1]
    clean = pixels(coco / "images" / "a.png")
    expected, _ = stylize_keyed(clean, open_styles(styles), key="images/a.png", seed=3)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "images" / "a.png"), expected)
    old = (coco / "boxes.json").read_bytes()
    assert (tmp_path / "out" / "boxes.json").read_bytes() == old
    assert run(*words) == 0
    assert "0 images written" in capsys.readouterr().out


def test_combined_with_several_styles_as_json(coco, styles, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("stylize", coco, out, "--styles", styles, "--combined", "-n", 2, "-w", 0, "--json")
    assert run(*words) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["written"], output["carried"], output["broken"]) == (2, 2, {})
    value = json.loads((out / "boxes.json").read_text())
    names = {image["id"]: image["file_name"] for image in value["images"]}
    assert names == {1: "a.png", 1_000_001: "a-stylized-1.png", 2_000_001: "a-stylized-2.png"}
    assert [note["image_id"] for note in value["annotations"]] == [1, 1_000_001, 2_000_001]


def test_alpha_and_format(coco, styles, tmp_path):
    words = ("--styles", styles, "-w", 0, "--alpha", 0, "--format", "jpeg")
    assert run("stylize", coco / "images" / "a.png", tmp_path / "out", *words) == 0
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert image.format == "JPEG"
        difference = np.asarray(image).astype(int) - pixels(coco / "images" / "a.png")
    assert np.abs(difference).mean() < 10


def test_a_dry_run_tells_and_writes_nothing(coco, styles, tmp_path, capsys):
    words = ("stylize", coco, tmp_path / "out", "--styles", styles, "-n", 2, "-w", 2, "--dry-run")
    assert run(*words) == 0
    output = capsys.readouterr().out
    assert "coco: 1 image in 2 styles are 2 images, and 1 other file" in output
    assert "with 2 processes" in output
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 2
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    coco, styles, tmp_path, capsys, monkeypatch
):
    words = ("stylize", coco, tmp_path / "out", "--styles", styles, "-w", 0)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shiftproof.data.copies.writing.encode", interrupted)
        assert run(*words) == 130
    assert "the same command resumes there" in capsys.readouterr().err
    assert run(*words) == 0
    assert "1 image written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alpha", "1.5"], "alpha is a number from 0"),
        (["--per-image", "0"], "one style for each image or more, got 0"),
        (["--engine", "magic"], "Unknown engine 'magic'"),
        (["--method", "magic"], "'magic' is not one of"),
        (["--engine", "adain"], "--method adain needs --weights"),
        (["--method", "adain"], "--method adain needs --weights"),
        (["--weights", "."], "--weights has an effect with --method adain only"),
        (["--engine", "adain", "--weights", "nowhere"], "Expected a folder with vgg_normalised"),
        (["--format", "gif"], "'gif' is not one of"),
        (["--styles", "nowhere"], "nowhere does not exist; expected a folder of paintings"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(coco, tmp_path, capsys, words, message):
    assert run("stylize", coco, tmp_path / "out", "-w", 0, *words) == 2
    output = capsys.readouterr().err.strip().splitlines()
    assert message in output[-1]
    # Before it at most what the verb is about to do.
    assert all(line.startswith("Stylizing") for line in output[:-1])
    assert len(output) < 3
    assert not (tmp_path / "out").exists()


def test_a_folder_of_broken_pictures_ends_with_2(styles, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"no")
    assert run("stylize", tmp_path / "a", tmp_path / "out", "--styles", styles, "-w", 0) == 2
    assert "The first of 1: x.jpg: not an image" in capsys.readouterr().err


def test_weights_are_handed_to_adain(coco, styles, tmp_path, monkeypatch, capsys):
    seen = []

    class Engine:
        identity = "a stand-in"

        def __init__(self, weights):
            seen.append([path.name for path in weights])

        def __call__(self, content, style, alpha, rng):
            return free(content, style, alpha, rng)

    monkeypatch.setattr("shiftproof.stylize.AdaIN", Engine)
    words = ("--styles", styles, "-w", 0, "-e", "adain")
    both = ("--weights", tmp_path / "e.pth", "--weights", tmp_path / "d.pth")
    assert run("stylize", coco, tmp_path / "out", *words, *both) == 0
    assert seen == [["e.pth", "d.pth"]]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stylized"] == "a stand-in"


def test_weights_that_run_code_are_refused(coco, tmp_path, capsys):
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "vgg_normalised.pth")
    torch.save({}, tmp_path / "decoder.pth")
    words = ("--engine", "adain", "--weights", tmp_path)
    assert run("stylize", coco, tmp_path / "out", *words) == 2
    assert "it was refused, and nothing of it was run" in capsys.readouterr().err
