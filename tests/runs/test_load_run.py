"""A run of any kind is opened: typed scores, and records that the scores follow from."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shiftproof import load_run
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.runs import AuditRun, AuditScores, GridScores, ProbeRun, ProbeScores, Run
from support.finished_runs import REFERENCE, SETS, TRAIN, run_audit


@pytest.mark.parametrize(
    ("name", "kind", "form", "scores"),
    [
        ("classifier", "classification", Run, GridScores),
        ("detector", "detection", Run, GridScores),
        ("own", "brightness", Run, GridScores),
        ("probe", "probe", ProbeRun, ProbeScores),
        ("audit", "similarity", AuditRun, AuditScores),
    ],
)
def test_each_kind_is_opened_with_its_scores_and_records(folders, name, kind, form, scores):
    run = load_run(str(folders / name))
    assert type(run) is form
    assert run.kind == kind
    assert type(run.scores) is scores
    assert run.scores.kind == kind
    assert run.provenance["shiftproof"]
    assert run.settings
    table = run.records()
    assert isinstance(table, pa.Table)
    assert table.num_rows > 0
    assert repr(run) == f"{form.__name__}({str(folders / name)!r})"


def test_the_errors_of_a_classifier_follow_from_its_records(folders):
    run = load_run(folders / "classifier")
    table = run.records(corruptions=["contrast"])
    wrong = pc.not_equal(table["target"], table["prediction"])
    errors = table.append_column("wrong", pc.cast(wrong, pa.float64()))
    means = errors.group_by("severity").aggregate([("wrong", "mean")]).to_pydict()
    for severity, mean in zip(means["severity"], means["wrong_mean"], strict=True):
        [cell] = [
            one
            for one in run.scores.models[0].cells
            if (one.corruption, one.severity) == ("contrast", severity)
        ]
        assert cell.figures["error"].value == pytest.approx(mean)


def test_unknown_models_corruptions_and_cells_are_named(folders):
    run = load_run(folders / "classifier")
    with pytest.raises(UnknownNameError, match="corruption of the run 'contras'"):
        run.records(corruptions=["contrast", "contras"])
    with pytest.raises(InputError, match="has no such cells"):
        run.records(severities=[9])
    with pytest.raises(UnknownNameError, match="model of the run 'sorce'"):
        run.cell("sorce", "contrast", run.scores.severities[0])
    with pytest.raises(InputError, match="has no cell contrast-9"):
        run.cell("source", "contrast", 9)


def test_records_of_a_detector_hold_its_boxes(folders):
    table = load_run(folders / "detector").records(corruptions=["clean"]).to_pydict()
    assert [len(boxes) for boxes in table["box"]] == [len(labels) for labels in table["label"]]
    assert all(len(box) == 4 for boxes in table["box"] for box in boxes)


def test_the_explained_share_of_a_factor_follows_from_the_records(folders):
    run = load_run(folders / "probe")
    table = run.records(["mean"], ["brightness"])
    assert table.column_names[:6] == ["model", "factor", "id", "version", "fold", "value"]
    value, read = (table[name].to_numpy() for name in ("value", "beside"))
    explained = 1 - ((value - read) ** 2).sum() / ((value - value.mean()) ** 2).sum()
    kept = run.scores.models[0].factors["brightness"].beside.value
    assert kept == pytest.approx(explained, abs=1e-5)
    assert run.records().num_rows == len(run.scores.models) * 2 * table.num_rows
    with pytest.raises(UnknownNameError, match="factor of the run"):
        run.records(factors=["brightnes"])
    with pytest.raises(UnknownNameError, match="model of the run"):
        run.records(["men"])


def test_the_gap_of_an_audit_follows_from_its_records(folders):
    run = load_run(folders / "audit")
    for one in run.scores.sets:
        table = run.records([one.name])
        near = (SETS[one.name].astype(float) @ TRAIN.T.astype(float)).max(axis=1)
        far = (SETS[one.name].astype(float) @ REFERENCE.T.astype(float)).max(axis=1)
        np.testing.assert_allclose(table["similarity"].to_numpy(), near)
        np.testing.assert_allclose(table["reference"].to_numpy(), far)
        assert one.gap.value == pytest.approx((near - far).mean())
    assert run.records()["set"].to_pylist() == ["sketch"] * 20 + ["art"] * 30
    with pytest.raises(UnknownNameError, match="test set of the audit"):
        run.records(["skech"])


def test_the_training_rows_of_an_audit_are_a_table(folders, tmp_path):
    run = load_run(folders / "audit")
    table = run.training_records("sketch")
    near = SETS["sketch"].astype(float) @ TRAIN.T.astype(float)
    np.testing.assert_allclose(table["similarity"].to_numpy(), near.max(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(table["index"].to_numpy(), near.argmax(axis=0))
    assert pc.sum(table["removed"]).as_py() == run.scores.sets[0].pruned.rows
    run_audit(tmp_path / "alone", reference=False)
    without = load_run(tmp_path / "alone")
    assert without.training_records("sketch").column_names == ["row", "similarity", "index"]
    assert "reference" not in without.records().column_names
    assert without.scores.sets[0].gap is None


@pytest.mark.parametrize("name", ["classifier", "probe", "audit"])
def test_names_in_the_scores_cannot_lead_out_of_the_run(folders, tmp_path, name):
    shutil.copytree(folders / name, tmp_path / "run")
    records = tmp_path / "run" / "records"
    key = "sets" if name == "audit" else "models"
    # A table of another run lies exactly where the name leads.
    here = records / "tests" if name == "audit" else records
    shutil.copytree(here, tmp_path / "other")
    file = tmp_path / "run" / "scores.json"
    content = json.loads(file.read_text())
    old = content[key][0]["name"]
    content[key][0]["name"] = new = f"../../{'../' * (name == 'audit')}other/{old}"
    content["differences"] = []
    file.write_text(json.dumps(content))
    with pytest.raises(BrokenFileError, match="expected the name of a file of records"):
        load_run(tmp_path / "run").records([new])


def test_names_in_the_scores_cannot_lead_a_single_cell_out_of_the_run(folders, tmp_path):
    """As above, of the methods that read one file: of a cell, or of the training rows."""
    for name, key, part in (("classifier", "models", "."), ("audit", "sets", "train")):
        shutil.copytree(folders / name, tmp_path / name / "run")
        records = tmp_path / name / "run" / "records" / part
        shutil.copytree(records, tmp_path / name / "other")
        file = tmp_path / name / "run" / "scores.json"
        content = json.loads(file.read_text())
        old = content[key][0]["name"]
        depth = "../.." if part == "." else "../../.."
        content[key][0]["name"] = new = f"{depth}/other/{old}"
        content["differences"] = []
        file.write_text(json.dumps(content))
        run = load_run(tmp_path / name / "run")
        assert (records / new).with_suffix(".npy").is_file() or (records / new).is_dir()
        with pytest.raises(BrokenFileError, match="expected the name of a file of records"):
            run.cell(new, "clean", 0) if name == "classifier" else run.training_records(new)


def test_a_run_is_refused_as_one_of_another_kind(folders):
    with pytest.raises(BrokenFileError, match=r"expected 'classification'|at kind|a value at"):
        _ = Run(folders / "audit").scores


def test_unfinished_runs_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text('{"kind": "probe", "settings": {}}')
    with pytest.raises(InputError, match="not finished"):
        load_run(tmp_path)
    (tmp_path / "scores.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"kind": 3, "settings": {}}')
    with pytest.raises(BrokenFileError, match=r"run\.json: expected a text at kind, got 3"):
        load_run(tmp_path)
