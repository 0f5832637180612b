"""Both recipes from the idx files to the page, on a dataset that is learnt in a second."""

import csv
import dataclasses
import io
import json
import math
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest

from shiftproof import cli
from shiftproof.errors import RunError
from shiftproof.metrics import Interval
from shiftproof.runs import Run
from shiftproof.types import CLEAN, Cell
from shiftproof_reproduce import (
    RECIPES,
    Recipe,
    bn_adaptation,
    publish,
    read_result,
    render,
    self_learning,
)
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.result import write_result
from support.tiny_fashion import BN_PLAN, SL_PLAN


@pytest.fixture(scope="module")
def sl(fashion_folder, bn, tmp_path_factory):
    out = tmp_path_factory.mktemp("sl")
    # The training is the same: go on from its end.
    shutil.copy(bn[0] / "network.pt", out)
    return out, self_learning.reproduce(out, data=fashion_folder, plan=SL_PLAN, show_progress=False)


@pytest.fixture(params=["bn", "sl"])
def result(request):
    return request.getfixturevalue(request.param)[1]


def test_every_table_is_whole(result):
    for table in result.tables:
        assert len(table.values) == len(table.rows) > 0
        assert all(len(row) == len(table.columns) > 0 for row in table.values)
        for row in table.values:
            for value in row:
                assert value is None or value.low <= value.value <= value.high


def test_the_files_are_made_of_the_result_alone(result, tmp_path):
    write_result(result, tmp_path / "result.json")
    again = read_result(tmp_path / "result.json")
    assert again == result
    written = publish(tmp_path / "result.json", tmp_path / "out")
    texts = render(again)
    assert {path.name for path in written} == {"result.json", *texts}
    for name, text in texts.items():
        assert (tmp_path / "out" / name).read_text(encoding="utf-8") == text
    page = texts["README.md"]
    for finding in result.findings:
        assert finding.claim in page
        assert finding.ours in page
    assert "nan" not in page
    assert len(json.loads(texts["findings.json"])) == len(result.findings)
    for table in result.tables:
        lines = list(csv.DictReader(io.StringIO(texts[f"{table.name}.csv"])))
        assert len(lines) == len(table.rows) * len(table.columns)
        if table.drawing != "none":
            drawing = ElementTree.fromstring(texts[f"{table.name}.svg"])
            width, height = map(float, drawing.get("viewBox").split()[2:])
            for mark in drawing.iter("{http://www.w3.org/2000/svg}circle"):
                assert 0 <= float(mark.get("cx")) <= width
                assert 0 <= float(mark.get("cy")) <= height


@pytest.fixture
def finished(bn, monkeypatch):
    """The first recipe, which comes to a result that is there already; and that."""
    _, result = bn

    def give_back(out, *, data, show_progress):
        out.mkdir(exist_ok=True)
        return result

    recipe = Recipe("in small, for this test", give_back, give_back)
    monkeypatch.setitem(RECIPES, "bn-adaptation", recipe)
    return result


def test_the_command_writes_the_folder_and_shows_the_findings(finished, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["reproduce", "bn-adaptation", "--out", str(out)]
    assert cli.run(words) == 0
    shown = capsys.readouterr().out
    assert "N = 16" in shown
    assert "Batch statistics lower the error" in " ".join(shown.split())
    written = read_result(out / "result.json")
    assert written == dataclasses.replace(finished, provenance=written.provenance)
    assert written.provenance == {
        **finished.provenance,
        "started": written.provenance["started"],  # when this command began, not that of before
    }
    assert (out / "README.md").read_text(encoding="utf-8") == render(written)["README.md"]
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "bn-adaptation"


def test_errors_are_those_of_the_runs(bn):
    """scores.json is averaged elsewhere, from the same records."""
    out, result = bn
    scores = Run(out / "runs" / "grid").scores
    table = result.table("methods")
    by_model = {model.name: model for model in scores.models}
    for row, model in ((0, "source"), (1, "bn-0"), (3, "bn-auto")):
        error = dict(zip(table.columns, table.values[row], strict=True))
        for column, figure in (("all corruptions", "mean"), ("clean", "clean")):
            expected = by_model[model].summary[figure]
            for end in ("value", "low", "high"):
                assert getattr(error[column], end) == pytest.approx(
                    getattr(expected, end), abs=1e-6
                )
    gain = next(finding for finding in result.findings if finding.name == "gain")
    [difference] = [each for each in scores.differences if each.name == "bn-0"]
    expected = difference.summary["mean"]
    for end in ("value", "low", "high"):
        assert getattr(gain.figure, end) == pytest.approx(getattr(expected, end), abs=1e-6)


def test_a_share_is_counted_by_hand(bn):
    measured = Measured(Run(bn[0] / "runs" / "grid"))
    cells = [Cell("gaussian_noise", 3), Cell("contrast", 3)]
    records = [measured.run.cell("bn-0", cell.corruption, 3) for cell in cells]
    shares = measured.wrong("bn-0", cells)
    for row in (0, 7, 20):
        wrong = sum(int(r.prediction[row] != r.target[row]) for r in records)
        assert shares[row] == wrong / 2
    assert measured.clean_error("source").value == measured.error("source", [CLEAN]).value


def test_a_second_start_adds_nothing(bn, fashion_folder):
    out, result = bn
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.parquet")}
    again = bn_adaptation.reproduce(out, data=fashion_folder, plan=BN_PLAN, show_progress=False)
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.parquet")} == stamps
    assert again.tables == result.tables
    assert again.findings == result.findings


def test_settings_are_chosen_on_the_holdout(sl):
    out, result = sl
    holdout = Measured(Run(out / "runs" / "holdout"))
    assert {cell.corruption for cell in holdout.cells} == {"saturate"}
    assert not set(SL_PLAN.corruptions) & {cell.corruption for cell in holdout.cells}
    for loss in ("ent", "rpl"):
        chosen = result.settings["chosen"][loss]
        errors = {
            (rate, momentum): np.mean(
                [
                    holdout.wrong(f"{loss}-{rate:g}-{momentum:g}", [cell]).mean()
                    for cell in holdout.cells
                ]
            )
            for rate in SL_PLAN.rates
            for momentum in SL_PLAN.momenta
        }
        assert errors[chosen["rate"], chosen["momentum"]] == min(errors.values())
    adapters = Run(out / "runs" / "online").folder.info()["settings"]["adapters"]
    assert adapters["rpl"]["lr"] == result.settings["chosen"]["rpl"]["rate"]
    traps = Run(out / "runs" / "trap-rate").folder.info()["settings"]["adapters"]
    assert traps["rpl"]["lr"] == pytest.approx(100 * adapters["rpl"]["lr"])


def test_the_streams_are_what_the_words_say(sl):
    def settings(name):
        return Run(sl[0] / "runs" / name).folder.info()["settings"]

    assert settings("trap-single")["batch_size"] == 1
    assert settings("trap-continual")["protocol"]["reset"] == "never"
    assert settings("offline")["protocol"]["epochs"] == SL_PLAN.epochs
    assert set(Run(sl[0] / "runs" / "trap-one-class").cell("ent", "contrast", 3).target) == {0}


def test_a_network_that_learnt_nothing_is_refused(fashion_folder, bn, tmp_path):
    shutil.copy(bn[0] / "network.pt", tmp_path)
    plan = dataclasses.replace(BN_PLAN, good_enough=0.0)
    with pytest.raises(RunError, match=r"wrong on .* clean test images; expected less than 0 %"):
        bn_adaptation.prepare(tmp_path, fashion_folder, plan, show_progress=False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({1: 0.3, 8: 0.1, 64: -0.01, 512: -0.02}, 64),
        ({1: 0.3, 8: -0.1, 64: 0.01, 512: -0.02}, 512),
        ({1: -0.3, 8: -0.1}, 1),
        ({1: -0.3, 8: 0.1}, None),
    ],
)
def test_crossover(values, expected):
    changes = {size: Interval(value, -math.inf, math.inf) for size, value in values.items()}
    assert bn_adaptation.find_crossover(changes) == expected
