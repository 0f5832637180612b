"""A task that the library does not know goes the whole way: from models to the page."""

import ast
import importlib
import inspect
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from shiftproof import bench, corrupt, load_run
from shiftproof.cli import run as command_line
from shiftproof.data import ImageArrays
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError
from shiftproof.report import print_table, table_csv, table_latex, write_report
from shiftproof.runs import Headline, Measure
from support.brightness_task import Brightness

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = {"corruptions": ["fog", "contrast"], "severities": [1, 4], "workers": 0}


def mean(images):
    return [float(image.mean()) for image in images]


def median(images):
    return [float(np.median(image)) for image in images]


MODELS = {"source": mean, "median": median}


def section(page, anchor):
    return page.partition(f'<section id="{anchor}"')[2].partition("</section>")[0]


def words_of(page, anchor):
    """What is read and spoken in a section, without the level of its intervals."""
    part = section(page, anchor)
    spoken = re.findall(r'(?:title|aria-label)="([^"]*)"', part)
    return " ".join([*spoken, re.sub(r"<[^>]*>", " ", part)]).replace("95\N{NO-BREAK SPACE}%", "")


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(5)
    levels = rng.integers(40, 200, 12)
    return [np.clip(rng.normal(one, 20, (20, 24, 3)), 0, 255).astype(np.uint8) for one in levels]


@pytest.fixture(scope="module")
def data(pixels):
    return ImageArrays(pixels, labels=[round(image.mean()) for image in pixels])


@pytest.fixture(scope="module")
def finished(data, few_resamples, tmp_path_factory):
    out = tmp_path_factory.mktemp("own") / "run"
    return bench.run(MODELS, data, task=Brightness(), out=out, **GRID)


def everything(folder):
    kept = [p for p in folder.rglob("*") if p.is_file() and p.name != "run.json"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in kept}


def test_it_takes_public_names_alone():
    source = Path(inspect.getfile(Brightness)).read_text(encoding="utf-8")
    imported = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("shiftproof")
    ]
    assert imported
    for node in imported:
        module = importlib.import_module(node.module)
        names = {alias.name for alias in node.names}
        assert names <= set(getattr(module, "__all__", ())) or node.module == "shiftproof.types"


def test_a_headline_states_its_unit():
    with pytest.raises(TypeError, match="unit"):
        Headline("mean", "Error", "grey levels", lower_is_better=True)
    with pytest.raises(TypeError, match="unit"):
        Measure("error", "error", lower_is_better=True)


def test_the_figures_are_those_of_a_calculation_by_hand(finished, pixels):
    scores = finished.scores
    assert scores.kind == "brightness"
    assert (
        json.loads((finished.path / "scores.json").read_text())["measures"][0]["unit"] == "number"
    )
    by_model = {model.name: model for model in scores.models}
    assert list(by_model) == ["source", "median"]
    target = [round(image.mean()) for image in pixels]
    for name, function in MODELS.items():
        means = []
        for cell, figure in by_model[name].of_cells("error").items():
            seen = [
                corrupt(image, cell.corruption, severity=cell.severity, key=f"{number:06}")
                for number, image in enumerate(pixels)
            ]
            by_hand = np.mean(np.abs(np.subtract(function(seen), target)))
            means.append(by_hand)
            assert figure.value == pytest.approx(by_hand)
            assert figure.lower <= figure.value <= figure.upper
        assert by_model[name].summary["mean"].value == pytest.approx(np.mean(means))
        clean = np.mean(np.abs(np.subtract(function(pixels), target)))
        assert by_model[name].summary["clean"].value == pytest.approx(clean)
    assert max(figure.value for figure in by_model["source"].of_cells("error").values()) > 1
    [difference] = scores.differences
    assert (difference.name, difference.against) == ("median", "source")
    assert difference.summary["mean"].value == pytest.approx(
        by_model["median"].summary["mean"].value - by_model["source"].summary["mean"].value
    )


@pytest.mark.parametrize("protocol", ["online", "online:mix=all"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(data, tmp_path, protocol):
    options = {"task": Brightness(), "batch_size": 5, "protocol": protocol, **GRID}
    whole = bench.run(MODELS, data, out=tmp_path / "whole", **options)
    calls = []

    def stops(images):
        calls.append(len(images))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return median(images)

    with pytest.raises(KeyboardInterrupt):
        bench.run({**MODELS, "median": stops}, data, out=tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "scores.json").exists()
    assert list((tmp_path / "cut").rglob("*.parquet"))
    again = bench.run(MODELS, data, out=tmp_path / "cut", **options)
    assert everything(again.path) == everything(whole.path)
    with pytest.raises(RunMismatchError, match="seed was 0, now 1"):
        bench.run(MODELS, data, out=tmp_path / "cut", seed=1, **options)


def test_the_records_are_one_table(finished):
    run = load_run(finished.path)
    table = run.records()
    assert table.column_names == [
        "model", "corruption", "severity", "id", "position", "target", "prediction", "error",
    ]  # fmt: skip
    assert len(table) == 2 * 5 * 12
    foggy = run.records(["median"], ["fog"], [4]).to_pydict()
    assert set(zip(foggy["model"], foggy["corruption"], foggy["severity"], strict=True)) == {
        ("median", "fog", 4)
    }
    off = np.abs(np.subtract(foggy["prediction"], foggy["target"]))
    cells = {(one.corruption, one.severity): one for one in run.scores.models[1].cells}
    assert cells["fog", 4].figures["error"].value == pytest.approx(off.mean())
    with pytest.raises(InputError, match="take its records"):
        run.cell("median", "fog", 4)


def test_a_damaged_table_is_named(data, tmp_path):
    run = bench.run(MODELS, data, task=Brightness(), out=tmp_path / "run", **GRID)
    path = run.path / "records" / "median" / "fog-4.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BrokenFileError, match=r"fog-4\.parquet: not a readable record table"):
        bench.run(MODELS, data, task=Brightness(), out=tmp_path / "run", **GRID)


def test_the_page_has_what_all_tasks_have(finished, tmp_path):
    page = write_report(finished.path, tmp_path / "page.html").read_text(encoding="utf-8")
    for words in ("mean absolute error", "median", "source", "Fog", "Contrast"):
        assert words in page
    for section in ("overview", "corruptions", "heat", "curves"):
        assert f'id="{section}"' in page
    assert "contrast" in table_csv(finished.scores)


def test_the_page_shows_it_in_its_own_unit(finished, tmp_path):
    page = write_report(finished.path, tmp_path / "page.html").read_text(encoding="utf-8")
    worst = max(one.value for one in finished.scores.models[0].of_cells("error").values())
    assert f"{worst:.1f}" in page
    assert f"{100 * worst:.1f}" not in page
    for anchor in ("overview", "corruptions", "heat", "curves"):
        assert not re.search(r"%|percent|points", words_of(page, anchor)), anchor
    assert "fractions" not in words_of(page, "numbers")
    assert "points" not in page[page.index("<header>") : page.index("</header>")]


def test_the_axis_of_the_curves_holds_the_largest_figure(finished, tmp_path):
    page = write_report(finished.path, tmp_path / "page.html").read_text(encoding="utf-8")
    highest = max(
        figure.upper
        for model in finished.scores.models
        for figure in (model.of_clean("error"), *model.of_cells("error").values())
    )
    panel = section(page, "curves").partition('class="curves"')[2].partition("</svg>")[0]
    low, half, top = map(float, re.findall(r'text-anchor="end">([^<]*)<', panel))
    assert (low, half) == (0, top / 2)
    assert highest <= top <= 2 * highest
    scale = section(page, "heat").partition('class="scale"')[2].partition("</div>")[0]
    darkest = float(re.findall(r'<span class="h s\d+">([^<]*)<', scale)[-1])
    worst = max(
        one.value for model in finished.scores.models for one in model.of_cells("error").values()
    )
    assert worst <= darkest <= 2 * worst


def test_the_tables_show_it_in_its_own_unit(finished):
    latex = table_latex(finished.scores)
    written = io.StringIO()
    print_table(finished.scores, Console(file=written, width=120))
    mean = finished.scores.models[0].summary["mean"].value
    change = finished.scores.differences[0].summary["mean"].value
    for text in (latex.partition("\n")[2], written.getvalue()):
        assert not re.search(r"%|points", text.replace(r"95\,\%", "").replace("95 %", ""))
        assert f"{mean:.1f}" in text
        assert f"{abs(change):.2g}" in text


def test_a_share_beside_it_keeps_its_sign(finished):
    content = json.loads((finished.path / "scores.json").read_text())
    content["headlines"].append(
        {
            "name": "kept",
            "title": "Kept",
            "note": "of all",
            "lower_is_better": False,
            "unit": "share",
        }
    )
    for model in content["models"]:
        model["summary"]["kept"] = {"value": 0.25, "low": 0.125, "high": 0.5}
    assert r"Kept & 25.0\,\% {\footnotesize (12.5--50.0)}" in table_latex(content)


def test_two_runs_stand_side_by_side(finished, data, tmp_path, capsys):
    other = bench.run({"other": median}, data, task=Brightness(), out=tmp_path / "other", **GRID)
    page = tmp_path / "both.html"
    words = ["report", str(finished.path), str(other.path), "--out", str(page)]
    assert command_line(words) == 0, capsys.readouterr().err
    text = page.read_text(encoding="utf-8")
    assert "mean absolute error" in text
    assert "other" in text
    assert "median" in text
