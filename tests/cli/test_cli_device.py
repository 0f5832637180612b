"""``bench --dtype`` and ``--corrupt-on``."""

import json

import pytest

from shiftproof import cli
from support import tiny
from support.few_resamples import set_replicates

pytest.importorskip("torchvision")

MODEL = "torchvision:mobilenet_v3_small?pretrained=false&size=32"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    set_replicates(monkeypatch, 20)
    photos = tiny.write_photos(tmp_path / "photos")

    def run(*more):
        words = [
            "bench",
            "--model",
            MODEL,
            "--data",
            photos,
            "--out",
            tmp_path / "run",
            "--unlabeled",
        ]
        words += ["--corruptions", "contrast", "--severities", "3", "--workers", "0", *more]
        return cli.run([str(word) for word in [*words, "--device", "cpu"]])

    return run


def test_both_stand_in_the_settings(bench, tmp_path, capsys):
    assert bench("--dtype", "bf16", "--corrupt-on", "device") == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["models"]["source"]["dtype"] == "bf16"
    assert settings["images"]["corrupted on"] == "cpu"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--corrupt-on", "device", "--dry-run"], "--dry-run corrupts image by image"),
        (["--corrupt-on", "device", "--encode", "jpeg"], "saved as JPEG"),
        (["--corrupt-on", "gpu"], "--corrupt-on"),
        (["--dtype", "bf61"], "--dtype"),
        (["--dtype", "fp16", "--adapt", "rpl"], "adapters cannot learn"),
    ],
)
def test_what_does_not_go_together_is_refused(bench, tmp_path, capsys, more, message):
    assert bench(*more) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
