"""The output of a verb at the end of a run."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from shiftproof.cli.copying import show_duration
from shiftproof.cli.planning import PlanOptions, count_processes, show_size
from shiftproof.cli.printing import print_json, print_line, warn
from shiftproof.counts import pluralize
from shiftproof.errors import MissingExtraError
from shiftproof.io import files

if TYPE_CHECKING:
    from shiftproof.bench import Forecast
    from shiftproof.runs import AnytimeRun, BreakingRun, EvaluationRun, ProbeRun, Run
    from shiftproof.runs.run import AnyRun
    from shiftproof.runs.scores.grid import ModelScores


def show_outcome(
    run: Run | ProbeRun | EvaluationRun | AnytimeRun | BreakingRun,
    *,
    as_json: bool,
    log: Sequence[str] = (),
    trust: bool = False,
) -> None:
    """Write the report, log the run, then print the table and the paths; or the scores as JSON.

    ``trust`` adds the reliability of confidences and prediction sets.
    """
    from shiftproof.report import describe_subset, print_table
    from shiftproof.runs import Run

    scores = run.scores
    page = write_page(run.path)
    logged = _log(run, log)
    if as_json:
        print_json(run.folder.scores_file.read_text(encoding="utf-8"))
        return
    broken = scores.images.broken
    print_table(scores, Console(file=sys.stdout))
    subset = describe_subset(run)
    if subset is not None:
        print_line(subset)
    for entry in broken[:5]:
        warn(f"not readable: {entry.reason}")
    if len(broken) > 5:
        warn(f"and {len(broken) - 5} more, listed in the report")
    if isinstance(run, Run):
        classes = run.info.classes
        warning = warn_if_near_chance(run.scores.measure.name, run.scores.models[0], classes)
        if warning is not None:
            warn(warning)
        if trust:
            _show_trust(run)
    if page is not None:
        print_line(f"report   {page}")
    print_line(f"scores   {run.folder.scores_file}")
    if (run.path / "records").is_dir():
        print_line(f"records  {run.path / 'records'}")
    for place in logged:
        print_line(f"logged   {place}")


def _show_trust(run: Run) -> None:
    from shiftproof.report import describe_trust

    lines, warnings = describe_trust(run)
    for line in lines:
        print_line(line)
    for line in warnings:
        warn(line)


def _log(run: AnyRun[Any], log: Sequence[str]) -> list[str]:
    if not log:
        return []
    from shiftproof.integrations import log_run

    return [log_run(run, tracker) for tracker in log]


def show_forecast(forecast: Forecast, plan: PlanOptions, *, as_json: bool) -> None:
    """Print the forecast of a run."""
    if as_json:
        content = {**dataclasses.asdict(forecast), **plan.describe(forecast.needs)}
        print_json(json.dumps(content, indent=1))
        return
    if forecast.extent is not None:
        print_line(forecast.extent)
    models = pluralize(forecast.models, "model")
    print_line(
        f"{pluralize(forecast.images, 'image')} in {pluralize(forecast.cells, 'cell')}, {models}: "
        f"{pluralize(forecast.passes, 'pass')} of an image through a model"
    )
    print_line(
        f"about {show_duration(forecast.seconds)}: {show_duration(forecast.load_seconds)} of reading "
        f"and corrupting, by {count_processes(forecast.workers)}, and "
        f"{show_duration(forecast.model_seconds)} of the models on {forecast.device}; tried on "
        f"{pluralize(forecast.tried, 'image')}"
    )
    print_line(
        f"about {show_size(forecast.disk)} on the disk, of which checkpoints are removed at the end"
    )
    plan.show(forecast.needs)
    print_line(
        "Fewer images: --images N, or --precision POINTS. Fewer cells: --corruptions, --severities."
    )


class PageUpdater:
    """Updates the page of an unfinished run, at most once every ``every`` seconds."""

    def __init__(self, every: float = 20.0) -> None:
        self._every, self._last = every, time.monotonic()
        self._fails = False

    def __call__(self, run: AnytimeRun) -> None:
        """Write the current page if the last one is old enough."""
        if self._fails or time.monotonic() - self._last < self._every:
            return
        self._fails = write_page(run.path, clear=False) is None
        self._last = time.monotonic()


NEAR_CHANCE = 0.85
"""Fraction of chance error above which a clean error suggests a wrong setup."""


def warn_if_near_chance(measure: str, model: ModelScores, classes: Mapping[str, Any]) -> str | None:
    """Return a warning if a classifier is little better than guessing on clean images."""
    clean = model.of_clean(measure) if measure == "error" else None
    count = classes.get("count")
    if clean is None or not isinstance(count, int) or count < 2:
        return None
    chance = 1 - 1 / count
    if clean.value < NEAR_CHANCE * chance:
        return None
    return (
        f"On the clean images {clean.value:.1%} are wrong, near the {chance:.1%} of a guess among "
        f"{pluralize(count, 'class')}, so the figures under corruption say little. Are the preprocessing "
        "(?size=, ?mean=, ?std=) and the order of the classes (--classes, --class-map) the model's own?"
    )


def write_page(run: Path, images: Sequence[Path] = (), *, clear: bool = True) -> Path | None:
    """Write the report of a run, or print why it cannot be written.

    ``images`` are further folders with images that it may show. ``clear`` removes incomplete files of
    killed processes; it must be False while the run is unfinished.
    """
    from shiftproof.report import write_report

    if clear:
        files.clear_unfinished(run, recursive=False)
    try:
        return write_report(run, images=images)
    except MissingExtraError as error:
        warn(f"No report.html: {error}", style=None)
        return None
