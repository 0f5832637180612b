"""Runs that find breaking points: against a corruption whose breaking points are known."""

import numpy as np
import pytest
from PIL import Image

from shiftproof import bench, load_run
from shiftproof.errors import InputError
from shiftproof.metrics.breaking import LEVELS
from shiftproof.report import table_csv, write_report
from support import tiny
from support.stopping import interrupt_after

OPTIONS = {"workers": 0, "batch_size": 16}


def fade(image, severity, rng):
    """Turn red images blue from a severity on that their own red says; 250 never."""
    red = float(image[..., 0].mean())
    if red > 240 or severity < 1 + red / 50:
        return image
    return np.roll(image, 2, axis=2)


def come_back(image, severity, rng):
    """Red is blue between 2 and 3 alone."""
    return np.roll(image, 2, axis=2) if 2 <= severity < 3 else image


@pytest.fixture
def reds(tmp_path):
    folder = tmp_path / "reds" / "red"
    folder.mkdir(parents=True)
    for red in (20, 60, 100, 140, 180, 250):
        pixels = np.zeros((24, 24, 3), np.uint8)
        pixels[..., 0] = red
        Image.fromarray(pixels).save(folder / f"{red:03}.png")
    return folder.parent


def expected(red):
    return next(level for level in LEVELS if level >= 1 + red / 50)


def test_each_image_breaks_at_its_own_severity(model, reds, tmp_path):
    run = bench.find_breaking(model, reds, corruptions=[fade], out=tmp_path / "run", **OPTIONS)
    found = run.records()["breaking"].to_pylist()
    assert found[:5] == pytest.approx([expected(red) for red in (20, 60, 100, 140, 180)])
    assert found[5] is None
    [corruption] = run.scores.models[0].corruptions
    assert corruption.survived.value == pytest.approx(1 / 6)
    mean = np.mean([*(expected(red) for red in (20, 60, 100, 140, 180)), 5])
    assert run.scores.models[0].severity.value == pytest.approx(mean)


def test_the_error_that_follows_is_that_of_the_grid(model, tmp_path):
    data = tiny.write_photos(tmp_path / "many", per_class=12)
    options = {"corruptions": ["contrast"], **OPTIONS}
    run = bench.find_breaking(model, data, out=tmp_path / "run", **options)
    full = bench.run(model, data, out=tmp_path / "full", **options)
    curve = run.scores.models[0].corruptions[0].curve
    for cell in full.scores.models[0].cells:
        at = 1 + LEVELS.index(cell.severity)
        assert 1 - curve[at].value == pytest.approx(cell.figures["error"].value, abs=0.03)
    assert 1 - curve[0].value == pytest.approx(full.scores.models[0].of_clean("error").value)


def test_answers_that_come_back_are_counted(model, reds, tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.bench.other_runs.breaking.CHECK_SHARE", 1.0)
    run = bench.find_breaking(model, reds, corruptions=[come_back], out=tmp_path / "run", **OPTIONS)
    records = run.records()
    # The first question, at the middle, is answered rightly, and so are those above it.
    assert records["breaking"].to_pylist() == [None] * 6
    steady = bench.find_breaking(model, reds, corruptions=[fade], out=tmp_path / "fade", **OPTIONS)
    assert steady.scores.models[0].checked > 0
    assert steady.scores.models[0].recovered == 0


def test_an_interrupted_run_ends_with_the_same_files(model, reds, tmp_path, monkeypatch):
    options = {"corruptions": [fade], **OPTIONS}
    whole = bench.find_breaking(model, reds, out=tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            bench.find_breaking(model, reds, out=tmp_path / "run", **options)
    with monkeypatch.context() as patch:
        # The clean images and two steps were kept: three steps and a check are left at most.
        interrupt_after(patch, 4)
        run = bench.find_breaking(model, reds, out=tmp_path / "run", **options)
    for name in ("scores.json", "records/source/fade.parquet", "gallery.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_without_labels_the_clean_answer_counts_as_right(model, reds, tmp_path):
    flat = reds / "red"
    run = bench.find_breaking(model, flat, corruptions=[fade], out=tmp_path / "run", **OPTIONS)
    assert not run.scores.labeled
    assert run.scores.models[0].clean.value == 0
    assert run.records()["breaking"].to_pylist()[0] == pytest.approx(expected(20))


def test_two_models_have_a_paired_difference(model, reds, tmp_path):
    models = {"first": model, "second": model}
    run = bench.find_breaking(models, reds, corruptions=[fade], out=tmp_path / "run", **OPTIONS)
    [change] = run.scores.differences
    assert (change.severity.value, change.severity.low, change.error.value) == (0, 0, 0)


def test_corrupted_copies_are_refused(model, reds, tmp_path):
    copy = tmp_path / "copies" / "fog" / "3" / "red"
    copy.mkdir(parents=True)
    (copy / "a.png").write_bytes((reds / "red" / "020.png").read_bytes())
    with pytest.raises(InputError, match="severities between the whole ones"):
        bench.find_breaking(model, tmp_path / "copies", out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_the_page_shows_figures_curves_and_pictures(model, reds, tmp_path):
    run = bench.find_breaking(
        model, reds, corruptions={"fade": fade, "back": come_back}, out=tmp_path / "run", **OPTIONS
    )
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "Mean breaking severity" in page
    assert "Still right at each severity" in page
    assert page.count("data:image") >= 6
    assert "severity 1.43" in page
    severity = run.scores.models[0].severity
    line = f"severity,,severity,{severity.value},{severity.low},{severity.high}"
    assert table_csv(load_run(run.path).scores).splitlines()[1] == line
