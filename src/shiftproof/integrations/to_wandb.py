"""A run in Weights & Biases: settings as configuration, scores as summary, curves by severity.

Offline unless WANDB_MODE is set: the run is written to disk, and ``wandb sync`` uploads it.
"""

from __future__ import annotations

import os
from pathlib import Path

from shiftproof.integrations.logged import Logged
from shiftproof.io import files
from shiftproof.lazy import import_extra

PROJECT = "shiftproof"


def check() -> None:
    """Check that wandb is installed.

    Raises:
        MissingExtraError: it is not.
    """
    import_extra("wandb", "wandb")


def write(logged: Logged, where: str | None) -> str:
    """Log a run, and return its folder or URL.

    ``where`` is the parent folder of wandb's folder; the current one by default.
    """
    check()
    import wandb

    folder = files.make_folder(Path(where or "."))
    run = wandb.init(
        project=PROJECT,
        name=logged.name,
        dir=str(folder),
        config={"kind": logged.kind, **logged.settings},
        mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
        settings=wandb.Settings(silent=True, console="off"),
    )
    run.define_metric("severity")
    for name in logged.curves:
        run.define_metric(name, step_metric="severity")
    for severity in sorted({one for curve in logged.curves.values() for one in curve}):
        row = {name: curve[severity] for name, curve in logged.curves.items() if severity in curve}
        run.log({"severity": severity, **row})
    run.summary.update(dict(logged.figures))
    place = Path(run.dir).parent if run.offline else run.url
    run.finish()
    return str(place)
