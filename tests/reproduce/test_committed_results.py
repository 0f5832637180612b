"""What lies under results/ is made from the numbers beside it."""

import re
from pathlib import Path

import pytest
import torch

from shiftproof import load_run
from shiftproof_reproduce import RECIPES, read_result, render
from shiftproof_reproduce.rendering import fill

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "results"
PAGES = {
    "adaptation.md": ("bn-adaptation", "self-learning", "adaptation-methods"),
    "detection.md": ("detection",),
    "contrastive.md": ("aninfonce", "aninfonce-medium", "aninfonce-fashion"),
    "similarity.md": ("train-test-similarity",),
    "reproduce.md": ("aninfonce-fashion",),
}
"""The pages that show results, and whose."""

RUN = ("adaptation.md", "detection.md", "contrastive.md", "reproduce.md")
"""The pages whose code is run here; that of the others is run with their own tests."""


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_only_recipes_have_results():
    names = {path.name for path in RESULTS.iterdir()}
    assert names <= {*RECIPES, "aninfonce-fashion", "aninfonce-medium", "fastestdet-voc100"}


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RESULTS.glob("*/result.json")))
def test_pages_and_figures_are_generated(name):
    folder = RESULTS / name
    result = read_result(folder / "result.json")
    texts = render(result)
    assert {path.name for path in folder.iterdir()} == {"result.json", *texts}
    for file, text in texts.items():
        assert (folder / file).read_text(encoding="utf-8") == text, file


def test_a_small_network_is_of_no_papers_scale():
    for path in RESULTS.glob("*/result.json"):
        result = read_result(path)
        plan = result.settings.get("plan", {})
        assert result.scale != "paper"
        assert plan.get("scale", result.scale) == result.scale
    fashion = (RESULTS / "aninfonce-fashion" / "README.md").read_text(encoding="utf-8")
    assert "`shiftproof reproduce aninfonce --scale paper --data fashion-mnist`" in fashion


@pytest.mark.parametrize("name", ["bn-adaptation", "self-learning"])
def test_the_network_is_good_and_the_grid_whole(name):
    from shiftproof.corruptions import COMMON, HOLDOUT

    result = read_result(RESULTS / name / "result.json")
    assert result.settings["network"]["clean_error"] < 0.08
    plan = result.settings["plan"]
    assert plan["corruptions"] == list(COMMON)
    assert plan["holdout"] == list(HOLDOUT)
    assert plan["severities"] == [1, 2, 3, 4, 5]
    assert result.settings["data"]["train"] == 60_000


def test_the_detector_is_good_and_the_grid_whole():
    from shiftproof.corruptions import COMMON

    result = read_result(RESULTS / "detection/result.json")
    plan = result.settings["plan"]
    assert plan["corruptions"] == list(COMMON)
    assert plan["severities"] == [1, 2, 3, 4, 5]
    assert plan["good_enough"] >= 0.7
    assert result.table("summary").columns[:3] == ["P", "mPC", "rPC"]


def test_the_figures_of_the_pretrained_detector_are_those_of_its_cells():
    folder = RESULTS / "fastestdet-voc100"
    scores = load_run(folder).scores
    assert scores.grid.complete
    model = scores.models[0]
    cells: dict[str, dict[int, float]] = {}
    for cell, figure in model.of_cells("AP50").items():
        cells.setdefault(cell.corruption, {})[cell.severity] = figure.value
    assert {len(row) for row in cells.values()} == {5}
    clean = model.of_clean("AP50").value
    assert 100 * clean == pytest.approx(54.5, abs=1)
    mean = sum(sum(row.values()) for row in cells.values()) / 75
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| mPC | {100 * mean:.1f} (" in text
    assert f"| rPC | {100 * mean / clean:.1f} (" in text
    for row in cells.values():
        assert " | ".join(f"{100 * row[severity]:.1f}" for severity in range(1, 6)) in text


@pytest.mark.parametrize("name", PAGES)
def test_tables_of_a_page_are_those_of_the_results(name):
    results = {recipe: read_result(RESULTS / recipe / "result.json") for recipe in PAGES[name]}
    text = page(name)
    assert fill(text, results) == text
    for recipe, result in results.items():
        for table in re.findall(rf"<!-- {recipe}:([\w-]+) -->", text):
            if table != "findings":
                shown = text.partition(f"<!-- {recipe}:{table} -->")[2].partition("<!-- end -->")[0]
                assert f"| {result.table(table).rows[0]} |" in shown


def test_the_page_of_the_experiments_says_what_there_is():
    text = page("reproduce.md")
    for name in RECIPES:
        assert f"| `{name}` |" in text
    for path in RESULTS.glob("*/result.json"):
        result, folder = read_result(path), path.parent.name
        [row] = [line for line in text.splitlines() if f"](../results/{folder}/README.md)" in line]
        assert f"`shiftproof reproduce {result.recipe}" in row
        assert f"| {sum(result.seconds.values()) / 60:.0f} minutes |" in row
        if result.scale == "medium":
            assert "--scale medium" in row


def test_code_of_the_pages_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for name in RUN:
        for block in re.findall(r"```python\n(.*?)```", page(name), flags=re.DOTALL):
            exec(compile(block, f"docs/{name}", "exec"), names)
    assert names["logits"].shape == (32, 5)
    assert isinstance(names["plain"], torch.nn.Sequential)
    assert len(names["found"][0]) == 1
    assert round(names["mpc"], 6) == 0.24
    assert round(names["rpc"], 6) == 0.6


def test_a_place_is_filled_and_the_rest_left():
    from shiftproof.metrics import Interval
    from shiftproof_reproduce import Result, Table

    table = Table("t", "T", "n", ["1"], ["a"], [[Interval(0.1, 0.1, 0.1)]])
    result = Result("r", "small", "R", "", {}, {}, [table], [])
    page = "before\n\n<!-- r:t -->\nold\n<!-- end -->\n\nafter\n"
    assert fill(page, {"r": result}) == (
        "before\n\n<!-- r:t -->\n\n| n | 1 |\n|---|---:|\n| a | 10.0 |\n\n<!-- end -->\n\nafter\n"
    )
