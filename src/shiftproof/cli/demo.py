"""``shiftproof demo``: a whole run on real photographs and a real model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.options import AsJson, Device, Out, Workers
from shiftproof.cli.outcome import show_outcome
from shiftproof.cli.printing import announce


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", epilog="Example:  shiftproof demo --quick --out /somewhere/else")(demo)


def demo(
    out: Out = Path("shiftproof-demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Severity 3 only, under a minute: no mCE is claimed.")
    ] = False,
    device: Device = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Benchmark EfficientNet-Lite0 on 20 ImageNet photographs, as published and adapted.

    15 corruptions in 5 severities, with batch-norm adaptation (Schneider et al. 2020) beside the
    published model. Needs the extra "demo" and no network.
    """
    if quick:
        out = out.with_name(f"{out.name}-quick")
    announce(
        "Measuring EfficientNet-Lite0 on 20 photographs, 15 corruptions, "
        f"{'severity 3' if quick else 'severities 1-5'}",
        out,
    )
    from shiftproof import bench as benchmark

    run = benchmark.run(
        "demo",
        "demo",
        severities=(3,) if quick else (1, 2, 3, 4, 5),
        adapters={"batchnorm": "batchnorm"},
        out=out,
        device=device,
        workers=workers,
    )
    show_outcome(run, as_json=as_json)
