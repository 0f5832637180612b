"""Runs in MLflow, Weights & Biases and TensorBoard, read back by each one's own reader."""

import json
import os
import sys

import pytest

from shiftproof import cli
from shiftproof.errors import InputError, MissingExtraError, UnknownNameError
from shiftproof.integrations import collect, log_run
from shiftproof.runs import load_run
from support.similarity_report_runs import write_audit
from support.simulated_runs import GRID, draw_tables, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trackers") / "net"
    run = load_run(write_run(folder, {"source": draw_tables(40, cells=GRID[:2])["source"]}))
    (folder / "report.html").write_text("a page")
    return run


def by_severity(run):
    cells = run.scores.models[0].of_cells("error")
    clean = run.scores.models[0].of_clean("error").value
    return {0: clean, **{cell.severity: figure.value for cell, figure in cells.items()}}


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_settings_figures_and_curves(run, tmp_path):
    from mlflow import MlflowClient

    log_run(run, f"mlflow:{tmp_path / 'store'}")
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    try:
        client = MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
        experiment = client.get_experiment_by_name("shiftproof").experiment_id
        [found] = client.search_runs([experiment])
        steps = client.get_metric_history(found.info.run_id, "error/fog")
        files = {one.path for one in client.list_artifacts(found.info.run_id)}
    finally:
        del os.environ["MLFLOW_ALLOW_FILE_STORE"]
    assert found.info.run_name == "net"
    assert found.info.status == "FINISHED"
    mean = run.scores.models[0].summary["mean"]
    assert found.data.metrics["mean"] == mean.value
    assert found.data.metrics["mean.low"] == mean.low
    assert found.data.params["data.name"] == "drawn"
    assert {one.step: one.value for one in steps} == by_severity(run)
    assert files == {"report.html", "scores.json"}


def test_tensorboard_has_figures_and_curves(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli.run(["log", str(run.path), "--to", f"tensorboard:{tmp_path / 'logs'}"]) == 0
    events = EventAccumulator(str(tmp_path / "logs" / "net"))
    events.Reload()
    [mean] = events.Scalars("mean")
    assert mean.value == pytest.approx(run.scores.models[0].summary["mean"].value)
    curve = {one.step: one.value for one in events.Scalars("error/fog")}
    assert curve == pytest.approx(by_severity(run))
    [settings] = events.Tensors("settings")
    content = json.loads(settings.tensor_proto.string_val[0])
    assert content["data.name"] == "drawn"


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_wandb_has_figures_and_curves_without_a_network(run, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log_run(run, f"wandb:{tmp_path}")
    wandb.teardown()  # its own process has then written everything
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, summary = [], {}
    for record in read_wandb(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            rows.append(
                {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            )
        if kind == "summary":
            for item in record.summary.update:
                summary["/".join(item.nested_key) or item.key] = item.value_json
    curve = {
        json.loads(row["severity"]): json.loads(row["error/fog"])
        for row in rows
        if "error/fog" in row
    }
    assert curve == by_severity(run)
    assert json.loads(summary["mean"]) == run.scores.models[0].summary["mean"].value


def read_wandb(path):
    """The records of a run: LevelDB's log format, 7 bytes of header and then blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def test_several_models_have_names_of_their_own(tmp_path):
    run = load_run(write_run(tmp_path / "both", draw_tables(20, cells=GRID[:1])))
    figures = collect(run).figures
    for model in run.scores.models:
        assert figures[f"{model.name}/mean"] == model.summary["mean"].value
        assert figures[f"{model.name}/corruption/fog"] == model.of_corruptions("error")["fog"].value


def test_audits_are_logged_by_test_set(tmp_path):
    path = write_audit(tmp_path / "audit")
    logged = collect(load_run(path))
    tested = load_run(path).scores.sets[0]
    assert logged.figures[f"{tested.name}/gap"] == tested.gap.value
    assert logged.curves == {}


def test_a_run_is_logged_as_it_ends(tmp_path, capsys):
    words = ["bench", "-m", "demo", "-d", "demo", "-o", str(tmp_path / "run")]
    assert cli.run([*words, "--log", "tensorbord"]) == 2
    assert "Unknown logger 'tensorbord'. Did you mean 'tensorboard'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_places_that_cannot_be_are_refused(run, monkeypatch):
    with pytest.raises(UnknownNameError, match="Unknown logger 'comet'"):
        log_run(run, "comet")
    with pytest.raises(InputError, match="after 'mlflow:', such as mlflow:logs"):
        log_run(run, "mlflow:")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"shiftproof\[mlflow\]"):
        log_run(run, "mlflow")
