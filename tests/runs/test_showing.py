"""Runs and scores in a notebook: what they show, their frames, and their figures."""

import html
import io
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from shiftproof import display
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.errors import InputError, MissingExtraError, UnknownNameError
from shiftproof.runs import load_run
from shiftproof.similarity import SimilarityGap
from shiftproof.types import Cell
from support.report_runs import scores, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("show") / "run", scores()))


def read_png(data):
    return Image.open(io.BytesIO(data), formats=["PNG"])


def test_a_run_shows_its_headlines_with_their_intervals(run):
    text = html.unescape(run._repr_html_())
    mean = run.scores.models[0].summary["mean"]
    shown = f"{100 * mean.value:.1f} % ({100 * mean.low:.1f}–{100 * mean.high:.1f})"
    assert shown in text
    assert all(model.name in text for model in run.scores.models)
    assert read_png(run._repr_png_()).width > 200


def test_names_are_escaped_in_what_a_notebook_shows(tmp_path):
    content = scores()
    content["models"][0]["name"] = "<img src=x onerror=alert(1)>"
    content["differences"] = []
    shown = load_run(write_run(tmp_path / "run", content, sheets=0))
    assert "<img" not in shown._repr_html_() + shown.scores._repr_html_()


def test_scores_are_a_table_with_a_row_per_figure(run):
    frame = run.scores.to_frame()
    model = run.scores.models[0]
    cell = model.cells[0]
    row = frame[
        (frame.model == model.name) & frame.against.isna() & (frame.over == "cell")
        & (frame.corruption == cell.corruption) & (frame.severity == cell.severity)
        & (frame.measure == "error")
    ]  # fmt: skip
    figure = cell.figures["error"]
    assert row[["value", "low", "high"]].to_numpy().tolist() == [
        [figure.value, figure.low, figure.high]
    ]
    table = run.scores.to_arrow()
    assert len(table) == len(frame)
    assert [str(table.schema.field(name).type) for name in ("against", "severity", "low")] == [
        "string", "int64", "double",
    ]  # fmt: skip


def test_scores_without_pandas_say_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[plot\]"):
        run.scores.to_frame()


def test_curves_go_through_the_means_of_the_cells(run):
    figure = run.plot.curve(models=["source"])
    assert isinstance(figure, Figure)
    line = figure.axes[0].get_lines()[-1]
    model = next(one for one in run.scores.models if one.name == "source")
    cells = model.of_cells("error")
    for severity, value in zip(*line.get_data(), strict=True):
        figures = [one.value for cell, one in cells.items() if cell.severity == severity]
        expected = np.mean(figures) if severity else model.of_clean("error").value
        assert value == pytest.approx(100 * expected)


def test_a_heat_map_has_every_cell(run):
    axes = run.plot.heatmap(model="source").axes[0]
    drawn = axes.images[0].get_array()
    cells = run.scores.models[0].of_cells("error")
    for row, name in enumerate(run.scores.corruptions):
        for column, severity in enumerate(run.scores.severities):
            [figure] = [one.value for cell, one in cells.items() if cell == Cell(name, severity)]
            assert drawn[row, column] == pytest.approx(100 * figure)


def test_a_gallery_shows_the_pictures_of_the_run(run):
    figure = run.plot.gallery(photographs=2, cells=3)
    assert len(figure.axes) == 6
    assert sum(bool(axes.images) for axes in figure.axes) == 6


def test_unknown_measures_and_models_are_refused(run):
    with pytest.raises(UnknownNameError, match=r"Unknown measure 'eror'\. Did you mean 'error'"):
        run.plot.curve("eror")
    with pytest.raises(UnknownNameError, match="model of the run"):
        run.plot.heatmap(model="nobody")


def test_a_run_without_pictures_says_so(tmp_path):
    bare = load_run(write_run(tmp_path / "run", scores(), sheets=0))
    with pytest.raises(InputError, match="holds no pictures"):
        bare.plot.gallery()


def test_without_matplotlib_figures_say_what_to_install_and_notebooks_show_the_table(
    run, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    display._make_figure_class.cache_clear()
    with pytest.raises(MissingExtraError, match=r"shiftproof\[plot\]"):
        run.plot.curve()
    assert run._repr_png_() is None
    assert run._repr_html_()


def test_a_corruption_shows_a_scene_at_its_severities():
    entry = CORRUPTIONS["contrast"]
    strip = np.asarray(read_png(entry._repr_png_()))
    side = strip.shape[0]
    parts = [strip[:, at * (side + 4) :][:, :side] for at in range(6)]
    spreads = [float(part.std()) for part in parts]
    assert spreads == sorted(spreads, reverse=True)  # the contrast falls
    assert entry.description in html.unescape(entry._repr_html_())


def test_a_similarity_gap_shows_its_means():
    near = np.array([1.0, 1.0])
    found = SimilarityGap(near, np.zeros((2, 1), np.int64), near, np.array([0.0, 1.0]), None)
    assert "+0.5000" in found._repr_html_()
    assert read_png(found._repr_png_()).width > 200
