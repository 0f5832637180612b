"""``shiftproof corrupt`` on datasets with boxes, and what it would take."""

import json

import numpy as np
import pytest
from PIL import Image

from support.command import run


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "coco" / "images").mkdir(parents=True)
    level = np.linspace(0, 255, 40 * 48 * 3).astype(np.uint8).reshape(40, 48, 3)
    Image.fromarray(level).save(tmp_path / "coco" / "images" / "a.jpg")
    value = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 48, "height": 40}],
        "annotations": [],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "coco" / "boxes.json").write_text(json.dumps(value))
    return tmp_path / "coco"


def test_annotations_are_carried_over(coco, tmp_path, capsys):
    assert run("corrupt", coco, tmp_path / "out", "-c", "contrast", "-s", "1,2", "-w", "0") == 0
    output = capsys.readouterr().out
    assert "2 images written" in output
    assert "2 other files carried over" in output
    value = json.loads((tmp_path / "out" / "contrast" / "2" / "boxes.json").read_text())
    assert value["images"][0]["file_name"] == "a.png"


def test_names_stay_with_format_source(coco, tmp_path):
    words = ("-c", "contrast", "-s", "1", "-w", "0", "--format", "source")
    assert run("corrupt", coco, tmp_path / "out", *words) == 0
    cell = tmp_path / "out" / "contrast" / "1"
    assert (cell / "boxes.json").read_bytes() == (coco / "boxes.json").read_bytes()
    with Image.open(cell / "images" / "a.jpg") as image:
        assert image.format == "JPEG"


def test_a_dry_run_tells_and_writes_nothing(coco, tmp_path, capsys):
    words = (
        "corrupt",
        coco,
        tmp_path / "out",
        "-c",
        "contrast",
        "-s",
        "1,2",
        "-w",
        "2",
        "--dry-run",
    )
    assert run(*words) == 0
    shown = capsys.readouterr().out
    assert "coco: 1 image in 2 cells are 2 images, and 1 other file in each cell" in shown
    assert "with 2 processes" in shown
    assert run(*words, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["images"], output["cells"], output["sampled"]) == (1, 2, ["images/a.jpg"])
    assert output["seconds"] == pytest.approx(output["cpu_seconds"] / 2)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_warns_of_a_disk_that_is_too_small(coco, tmp_path, capsys, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    assert run("corrupt", coco, tmp_path / "out", "-c", "contrast", "-s", "1", "--dry-run") == 0
    assert "The disk will be full before the work is finished." in capsys.readouterr().err
