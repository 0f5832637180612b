"""A run in MLflow: settings as parameters, scores as metrics, curves with the severity as step."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.integrations.logged import Logged
from shiftproof.lazy import import_extra

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "shiftproof"
MAX_PARAMS = 100
"""MLflow's limit of parameters per request; for metrics it is a thousand."""


def check() -> None:
    """Check that MLflow is installed.

    Raises:
        MissingExtraError: it is not.
    """
    import_extra("mlflow", "mlflow")


def write(logged: Logged, where: str | None) -> str:
    """Log a run, and return the URI of its store.

    ``where`` is a folder, or the URI of a server; by default MLFLOW_TRACKING_URI, else the folder
    ``mlruns``.
    """
    check()
    address = _resolve_address(where)
    with _allow_folders(address):
        run = _write(logged, address)
    return f"{where or address} (experiment {EXPERIMENT}, run {run})"


def _write(logged: Logged, address: str) -> str:
    """Log a run to the store at a URI, and return MLflow's run id."""
    from mlflow import MlflowClient
    from mlflow.entities import RunTag

    client = MlflowClient(tracking_uri=address)
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    run: str = client.create_run(experiment, run_name=logged.name).info.run_id
    client.log_batch(run, tags=[RunTag("kind", logged.kind)])
    _write_settings(client, run, logged)
    _write_figures(client, run, logged)
    for file in logged.files:
        client.log_artifact(run, str(file))
    client.set_terminated(run)
    return run


@contextmanager
def _allow_folders(address: str) -> Iterator[None]:
    """Allow MLflow 3 to write to a folder, which is disabled by default, without its warning.

    The recommended database needs the full MLflow instead of its small client.
    """
    name = "MLFLOW_ALLOW_FILE_STORE"
    before = os.environ.get(name)
    try:
        if address.startswith("file:"):
            os.environ[name] = "true"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _resolve_address(where: str | None) -> str:
    stated = where or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
    return stated if "://" in stated else Path(stated).resolve().as_uri()


def _write_settings(client: MlflowClient, run: str, logged: Logged) -> None:
    from mlflow.entities import Param

    entries = [Param(_clean_name(name), value) for name, value in logged.settings.items()]
    for at in range(0, len(entries), MAX_PARAMS):
        client.log_batch(run, params=entries[at : at + MAX_PARAMS])


def _write_figures(client: MlflowClient, run: str, logged: Logged) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    entries = [Metric(_clean_name(name), value, now, 0) for name, value in logged.figures.items()]
    entries += [
        Metric(_clean_name(name), value, now, severity)
        for name, curve in logged.curves.items()
        for severity, value in curve.items()
    ]
    for at in range(0, len(entries), 10 * MAX_PARAMS):
        client.log_batch(run, metrics=entries[at : at + 10 * MAX_PARAMS])


def _clean_name(name: str) -> str:
    """Return a name of valid characters for MLflow that cannot leave its store."""
    kept = "".join(one if one.isalnum() or one in "_-. /" else "_" for one in name)
    return "/".join(part.strip(".") or "_" for part in kept.split("/"))
