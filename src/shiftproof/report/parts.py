"""Grouping runs of any kinds into the parts of one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shiftproof.errors import InputError, RunMismatchError
from shiftproof.report.classification.kind import make_stream_page
from shiftproof.report.evaluation.kind import EvaluationPage
from shiftproof.report.grid.page import GridPage
from shiftproof.report.grid.ranking import format_ranking, tabulate_ranking
from shiftproof.report.kind import PageKind
from shiftproof.report.kinds import find_kind
from shiftproof.report.sections import Document, label_models, name_runs
from shiftproof.report.table_writing import Table, print_whole
from shiftproof.runs.run import AnyRun, AuditRun, EvaluationRun, Run, load_run
from shiftproof.runs.scores.ranking import Ranking

if TYPE_CHECKING:
    from rich.console import Console

    from shiftproof.bench.estimates.error_estimates import StreamEstimate


@dataclass(frozen=True)
class Part:
    """Runs that are shown together, and their page kind."""

    kind: PageKind[Any, Any]
    runs: Sequence[AnyRun[Any]]

    def build(self, budget: int, images: Sequence[Path]) -> Document:
        """Return the content of the page, with images of at most ``budget`` characters."""
        folders = images if self.kind.takes_images else ()
        return self.kind.build(self.runs, self.kind.load_pictures(self.runs, budget, folders))

    def describe_differences(self) -> list[str]:
        """Describe differences between the runs that make a comparison unfair."""
        alike = [one for one in self.runs if isinstance(one, Run)]
        if len(alike) < 2 or not isinstance(self.kind, GridPage):
            return []
        return self.kind.describe_differences(alike)


def group_runs(runs: Sequence[AnyRun[Any]]) -> list[Part]:
    """Group runs by kind and measure, in order of first occurrence.

    One axis cannot show errors and AP, nor AP and AP50. Audits and evaluations are not grouped, as
    their scores depend on their own training set or test sets.
    """
    found: dict[object, list[AnyRun[Any]]] = {}
    for place, run in enumerate(runs):
        alone = isinstance(run, AuditRun | EvaluationRun)
        found.setdefault(place if alone else (run.kind, name_measure(run)), []).append(run)
    return [Part(find_kind(group[0].kind), group) for group in found.values()]


def plan_parts(
    runs: Sequence[AnyRun[Any]], calibration: Path | None, images: Sequence[Path]
) -> list[Part]:
    """Return the parts of a page, with results that need several runs.

    Raises:
        InputError: ``calibration`` cannot calibrate this, or ``images`` are given without an audit.
        RunMismatchError: ``calibration`` is a run of another model.
        BrokenFileError: a file of a run is damaged.
    """
    if calibration is not None:
        estimated = GridPage(make_stream_page(_estimate(runs, calibration)))
        parts = [Part(estimated, runs)]
    else:
        parts = [_complete(part, runs) for part in group_runs(runs)]
    if images and not any(part.kind.takes_images for part in parts):
        raise InputError(
            f"{runs[0].path} has its pictures in its own folder; folders of images can only be given "
            "for an audit of embeddings."
        )
    return parts


def _complete(part: Part, runs: Sequence[AnyRun[Any]]) -> Part:
    """Add the results that need all runs: a ranking, or the audit of an evaluation."""
    if isinstance(part.kind, GridPage) and len(part.runs) > 1:
        return Part(GridPage(part.kind.task, *_rank(part)), part.runs)
    [run, *_] = part.runs
    if isinstance(run, EvaluationRun) and run.scores.audit is None:
        return Part(_find_audit(run, runs), part.runs)
    return part


def _find_audit(run: EvaluationRun, runs: Sequence[AnyRun[Any]]) -> EvaluationPage:
    """Return the page of an evaluation beside the first audit among the runs of its test sets."""
    from shiftproof.evaluate import join_audit

    for other in runs:
        if isinstance(other, AuditRun):
            try:
                return EvaluationPage(join_audit(run, other.path))
            except InputError:
                continue  # of other test sets
    return EvaluationPage()


def _rank(part: Part) -> tuple[Ranking | None, str | None, Sequence[str]]:
    """Return the ranking of all models of comparable runs, or the reason if there is none, and how
    the runs were brought together, in sentences.
    """
    from shiftproof.bench import rank_runs
    from shiftproof.bench.reanalysis.class_order import describe_class_orders

    alike = [run for run in part.runs if isinstance(run, Run)]
    if part.describe_differences():
        return None, None, ()  # said at the top of the page
    names = name_runs(alike)
    try:
        ranking = rank_runs(alike, names)
        return _use_labels(ranking, alike), None, describe_class_orders(alike, names)
    except (InputError, RunMismatchError) as error:
        return None, str(error), ()


def _use_labels(ranking: Ranking | None, runs: Sequence[Run]) -> Ranking | None:
    """Return a ranking in which models are called as elsewhere on the page: by title, if alone."""
    if ranking is None:
        return None
    names = {id(run): name for run, name in zip(runs, name_runs(runs), strict=True)}
    labels = {
        f"{names[id(run)]}: {model.name}": series.label for run, model, series in label_models(runs)
    }
    replace = msgspec.structs.replace
    return replace(
        ranking,
        places=tuple(replace(one, name=labels[one.name]) for one in ranking.places),
        pairs=tuple(
            replace(one, name=labels[one.name], against=labels[one.against])
            for one in ranking.pairs
        ),
    )


# ---------------------------------------------------------------- for the terminal


def describe_differences(run: Sequence[str | Path]) -> list[str]:
    """Describe differences between runs that make their figures incomparable.

    Returns:
        Sentences; none if the runs of each kind are comparable, or single.

    Raises:
        InputError: a folder is not a finished run.
        BrokenFileError: a file of a run is damaged.
    """
    parts = group_runs([load_run(path) for path in run])
    return [sentence for part in parts for sentence in part.describe_differences()]


def print_ranking(run: Sequence[str | Path], console: Console) -> None:
    """Print the ranking of the models of several runs to a terminal, paired by image.

    Raises:
        RunMismatchError: the runs are not comparable; the message names the differences.
        InputError: a folder is not a finished run; a kind whose models cannot be ranked.
        BrokenFileError: a file of a run is damaged.
    """
    first, ranking, why, notes = _rank_alike(run)
    shown = format_ranking(first.scores, ranking)
    if shown is None:
        raise InputError(why or "These runs have no headline to rank their models by.")
    print_whole(console, shown)
    for note in notes:
        console.print(note, markup=False, highlight=False, emoji=False)


def tabulate_models(run: Sequence[str | Path]) -> Table:
    """Return the ranking of the models of several runs as a table; errors as for a terminal."""
    first, ranking, why, _ = _rank_alike(run)
    table = tabulate_ranking(first.scores, ranking)
    if table is None:
        raise InputError(why or "These runs have no headline to rank their models by.")
    return table


def _rank_alike(
    run: Sequence[str | Path],
) -> tuple[Run, Ranking | None, str | None, Sequence[str]]:
    runs = [load_run(path) for path in run]
    for aspect, values in (
        ("kind", {one.kind for one in runs}),
        ("measure", {name_measure(one) for one in runs}),
    ):
        if len(values) > 1:
            raise RunMismatchError(
                f"The runs differ in their {aspect} ({', '.join(sorted(values))}), so their models "
                "have no ranking. Without --table they are shown on one page, each kind by itself."
            )
    part = Part(find_kind(runs[0].kind), runs)
    first = runs[0]
    if not isinstance(part.kind, GridPage) or not isinstance(first, Run):
        raise InputError(
            f"Runs of the kind {first.kind!r} are not ranked together; give one folder."
        )
    if told := part.describe_differences():
        raise RunMismatchError(" ".join(told))
    return first, *_rank(part)


def name_measure(run: AnyRun[Any]) -> str:
    """Return the name of a run's measure."""
    measure = run.scores.measure
    return measure if isinstance(measure, str) else str(measure.name)


def _estimate(runs: Sequence[AnyRun[Any]], calibration: Path) -> StreamEstimate:
    from shiftproof.bench import estimate_stream

    if len(runs) > 1:
        raise InputError(
            f"Expected one run to calibrate, got {len(runs)}. Write a report for each."
        )
    if runs[0].kind != "classification":
        raise InputError(
            f"{runs[0].path} is a run of the kind {runs[0].kind!r}; only errors of classifiers can be "
            "estimated without labels. Leave the calibration out."
        )
    if name_measure(runs[0]) == "error":
        raise InputError(
            f"{runs[0].path} has labels: its errors are measured and need no estimate. Leave the "
            "calibration out."
        )
    return estimate_stream(runs[0].path, calibration)
