"""``shiftproof probe`` on the command line."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from shiftproof.probe import mlp
from support.command import run

MODEL = "torchvision:resnet18?pretrained=false&size=32"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(mlp, "STEPS", 10)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(10):
        coarse = rng.integers(40, 200, (4, 4, 3), np.uint8)
        pixels = cv2.resize(coarse, (40, 40), interpolation=cv2.INTER_LINEAR)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_two_encoders_from_images_to_a_page(photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("probe", "-d", photos, "-o", out, "--versions", 4, "-w", 0, "-m", MODEL, "-m", MODEL)
    assert run(*words, "--factors", "brightness,flip") == 0
    output = capsys.readouterr().out
    assert "Brightness" in output
    assert f"report   {out / 'report.html'}" in output
    assert (out / "report.html").is_file()
    assert run(*words, "--factors", "brightness,flip", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    encoders = [model["name"] for model in scores["models"] if model["control"] is None]
    assert len(encoders) == 2
    assert encoders[1] == f"{encoders[0]}-2"
    assert {model["control"] for model in scores["models"]} == {None, "random", "pixels"}
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["factors"] == ["flip", "brightness"]
    assert not any(encoder["normalize"] for encoder in settings["encoders"].values())
    assert run(*words, "--factors", "hue") == 2
    assert "other settings" in capsys.readouterr().err
    assert run("report", out) == 0


def test_what_is_wrong_is_said_in_one_line(photos, tmp_path, capsys):
    words = ("probe", "-d", photos, "-o", tmp_path / "out", "-m", MODEL, "-w", 0)
    assert run(*words, "--factors", "brightnes") == 2
    assert "Did you mean 'brightness'" in capsys.readouterr().err
    (photos / "0.png").unlink()
    assert run(*words, "--factors", "hue") == 2
    assert "Expected 10 images or more, got 9" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()
