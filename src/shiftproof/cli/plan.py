"""``shiftproof plan``: an estimate of time, memory and disk of an audit."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from shiftproof.cli import embedding_options as options
from shiftproof.cli.printing import announce, print_json, print_line
from shiftproof.counts import pluralize

if TYPE_CHECKING:
    from shiftproof.similarity.plan import AuditPlan


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "plan",
        epilog="Example:  shiftproof plan --train-rows 400M --dim 640 --test-rows 170k --sets 6",
    )(plan)


def plan(
    train_rows: Annotated[
        str, typer.Option("--train-rows", help="Rows of the training set, such as 400M.")
    ],
    test_rows: Annotated[
        str, typer.Option("--test-rows", help="Rows of all test sets together, such as 170k.")
    ],
    dim: Annotated[int, typer.Option("--dim", min=1, help="Width of a row.")],
    reference_rows: Annotated[
        str, typer.Option("--reference-rows", help="Rows of the reference set, such as 1.28M.")
    ] = "0",
    sets: Annotated[int, typer.Option("--sets", min=1, help="Number of test sets.")] = 1,
    k: Annotated[
        int,
        typer.Option("--k", min=1, metavar="INT", help="Nearest training rows for the density."),
    ] = 10,
    gpu_rate: Annotated[
        float | None,
        typer.Option("--gpu-rate", help="Operations a second of a GPU, such as 3e14."),
    ] = None,
    workers: options.Workers = None,
    memory: options.Memory = "4GB",
    precision: options.PrecisionName = "auto",
    as_json: options.Json = False,
) -> None:
    """Estimate what `shiftproof audit` takes, from about ten seconds of it on this machine's CPU."""
    announce(
        f"Estimating an audit of {train_rows} rows against {test_rows}, from about ten seconds of it"
    )
    from shiftproof.shards import Local
    from shiftproof.similarity.plan import parse_count
    from shiftproof.similarity.plan import plan as estimate

    processes = Local(workers).processes()
    planned = estimate(
        parse_count(train_rows),
        parse_count(test_rows),
        dim,
        reference_rows=parse_count(reference_rows),
        sets=sets,
        k=k,
        workers=processes,
        precision=precision,
        memory=memory,
        gpu_rate=gpu_rate,
    )
    if as_json:
        print_json(json.dumps(dataclasses.asdict(planned), indent=1))
    else:
        _show(planned, processes)


def _show(plan: AuditPlan, workers: int) -> None:
    gigabyte = 1e9
    lines = {
        "work": f"{plan.products:.2e} pairs of rows, {plan.operations:.2e} operations",
        "memory": f"{plan.memory / gigabyte:.1f} GB for {pluralize(workers, 'worker')}, {plan.passes} "
        f"pass{'es' if plan.passes > 1 else ''} over the training rows for each search",
        "read": f"{plan.read / gigabyte:,.0f} GB of float16 rows, all searches together",
        "disk": f"{plan.disk / gigabyte:,.1f} GB of parts and records",
        "time": f"{plan.core_hours:,.1f} hours on one core like this one's, "
        f"{plan.core_hours / workers:,.1f} with {pluralize(workers, 'worker')}",
        "parts": f"{plan.parts:,} of {plan.part_rows:,} rows (--part-rows {plan.part_rows})",
    }
    if plan.gpu_hours is None:
        lines["GPU"] = (
            "say --gpu-rate, operations a second, for what the arithmetic would take on one"
        )
    else:
        lines["GPU"] = (
            f"{plan.gpu_hours:,.2f} hours for the arithmetic at the stated rate (not measured; see "
            "--device of audit)"
        )
    for name, line in lines.items():
        print_line(f"{name:<7} {line}")
    rates = plan.rates
    print_line(
        f"measured here, one core: {rates.top_k / 1e6:,.0f}, {rates.nearest / 1e6:,.0f} and "
        f"{rates.prune / 1e6:,.0f} million pairs a second (top-k, nearest, prune). Rows that lie "
        "otherwise may take half or twice as long."
    )
