"""``shiftproof export``: what it says and writes, and how it ends on bad input."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from shiftproof import cli
from shiftproof.adapt.graphs.calibration_images import prepare_batches, split_path
from shiftproof.errors import InputError
from support.onnx_graphs import build, export, run
from support.small_networks import convolutional, noise


@pytest.fixture
def plain(tmp_path):
    onnx.save(build(), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_it_lists_the_layers_and_writes_the_file(plain, tmp_path, capsys):
    out = tmp_path / "out.onnx"
    assert cli.run(["export", "--adapt", "batchnorm:prior=16", str(plain), str(out)]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "norm1  batch norm, 4 channels",
        "norm5  batch norm, 6 channels",
        "2 layers adapt",
        f"{out}: opset 17, any number of images at once",
    ]
    assert run(out, noise()).shape == (6, 5)


def test_a_folded_graph_is_calibrated_with_a_folder(photos, tmp_path, capsys):
    folded, out = tmp_path / "folded.onnx", tmp_path / "out.onnx"
    export(convolutional(), folded, unfolded=False)
    spec = f"onnx:{folded}?mean=0.5,0.5,0.5&std=0.5,0.5,0.5"
    assert cli.run(["export", spec, str(out), "--calibrate", str(photos), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["calibration_images"] == 3
    assert [layer["kind"] for layer in output["layers"]] == ["after convolution"] * 2
    assert output["settings"]["calibration_images"] == 3
    assert output["path"] == str(out)


def test_the_written_file_goes_through_bench(plain, photos, tmp_path):
    out = tmp_path / "out.onnx"
    assert cli.run(["export", str(plain), str(out)]) == 0
    labeled = tmp_path / "labeled" / "0"
    labeled.mkdir(parents=True)
    for path in photos.iterdir():
        path.rename(labeled / path.name)
    words = ["--data", str(labeled.parent), "--out", str(tmp_path / "run"), "--workers", "0"]
    words += ["-c", "fog", "-s", "3", "--json"]
    assert cli.run(["bench", "--model", f"onnx:{out}", *words]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{missing}", "{out}"], "there is no such file"),
        (["{photos}/0.png", "{out}"], "not an ONNX file"),
        (["{plain}", "{plain}"], "exists already"),
        (["{plain}", "{out}", "--adapt", "ent"], "keeps nothing from one batch to the next"),
        (["{plain}", "{out}", "--calibrate", "{missing}"], "missing"),
        (["{folded}", "{out}"], "--calibrate"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    words, said, plain, photos, tmp_path, capsys
):
    export(convolutional(), tmp_path / "folded.onnx", unfolded=False)
    names = {name: tmp_path / f"{name}.onnx" for name in ("missing", "plain", "folded", "out")}
    before = sorted(tmp_path.iterdir())
    assert cli.run(["export", *(word.format(photos=photos, **names) for word in words)]) == 2
    output = capsys.readouterr().err
    assert said in " ".join(output.split())
    assert "Traceback" not in output
    assert sorted(tmp_path.iterdir()) == before


def test_a_fixed_batch_takes_whole_batches_of_images(tmp_path):
    onnx.save(build(batch=2), tmp_path / "two.onnx")
    pictures = list(np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8))
    found = list(prepare_batches(str(tmp_path / "two.onnx"), pictures))
    assert [batch.shape for batch in found] == [(2, 3, 16, 16)] * 2
    with pytest.raises(InputError, match="takes 2 images at once, and 1 is there"):
        list(prepare_batches(f"onnx:{tmp_path}/two.onnx", pictures[:1]))


def test_the_path_in_a_text():
    assert str(split_path("onnx:a/b?c.onnx?size=3")) == "a/b?c.onnx"
    assert str(split_path("a/b.onnx")) == "a/b.onnx"
