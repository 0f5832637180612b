"""``shiftproof embed`` on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

import shiftproof
from shiftproof.models.encoders.features import drop_last_layer
from support.command import run


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_the_default_model_needs_no_network(photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"")
    out = tmp_path / "out"
    words = ("embed", "--data", photos, "--out", out, "--shard-size", 2, "-w", 0)
    assert run(*words, "--device", "cpu") == 0
    shown = capsys.readouterr()
    assert f"3 vectors of width 1280 in {out}" in shown.out
    assert "2 shards written" in shown.out
    assert "not embedded: broken.png: the file is empty" in shown.err
    rows = [np.load(out / "img_emb" / f"img_emb_{number}.npy") for number in range(2)]
    classifier = shiftproof.load_classifier("demo")
    features = shiftproof.Encoder(drop_last_layer(classifier.module, "demo"), classifier.preprocess)
    images = [Image.open(photos / f"{number}.png") for number in range(3)]
    fitted = [classifier.preprocess.geometry(np.asarray(image)) for image in images]
    np.testing.assert_allclose(np.concatenate(rows), features.encode(fitted), atol=1e-3)
    assert run(*words, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["rows"], output["written"], output["kept"]) == (3, 0, 2)
    assert list(output["broken"]) == ["broken.png"]


def test_raw_vectors_of_a_model_that_is_named(photos, tmp_path):
    model = "torchvision:resnet18?pretrained=false&size=32"
    words = ("--model", model, "--raw", "--batch-size", 2, "-w", 0)
    assert run("embed", "--data", photos, "--out", tmp_path / "out", *words) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["encoder"]["normalize"] is False
    assert manifest["settings"]["encoder"]["preprocess"]["size"] == [32, 32]
    assert manifest["batch_size"] == 2
    words = ("--model", model.replace("32", "40"), *words[2:])
    assert run("embed", "--data", photos, "--out", tmp_path / "out", *words) == 2


def test_nothing_that_can_be_read(photos, tmp_path, capsys):
    for photo in photos.iterdir():
        photo.write_bytes(b"no image")
    assert run("embed", "--data", photos, "--out", tmp_path / "out", "-w", 0) == 2
    output = capsys.readouterr().err.replace("\n", " ")
    assert "None of the images of photos can be read. The first of 3: " in output
    assert not (tmp_path / "out").exists()


def test_one_vector_in_one_shard_is_told_in_the_singular(photos, tmp_path, capsys):
    for name in ("1.png", "2.png"):
        (photos / name).unlink()
    words = ("embed", "--data", photos, "--out", tmp_path / "out", "-w", 0, "--device", "cpu")
    assert run(*words) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("1 vector of width 1280 in ")
    assert output[1] == "1 shard written"
    assert run(*words) == 0
    assert "0 shards written, 1 existed already" in capsys.readouterr().out


def test_no_data(tmp_path, capsys):
    assert run("embed", "--data", tmp_path / "nothing", "--out", tmp_path / "out") == 2
    assert "does not exist" in capsys.readouterr().err.replace("\n", " ")


def test_embeddings_within_their_own_data_go_on(photos, capsys):
    words = ("embed", "--data", photos, "--out", photos / "out", "-w", 0)
    assert run(*words) == 0
    capsys.readouterr()
    assert run(*words, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["rows"], output["written"], output["kept"]) == (3, 0, 1)
