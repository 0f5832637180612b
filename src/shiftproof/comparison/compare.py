"""Comparing two runs: choosing models, pairing images, and checking conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftproof.bench.tasks.interface import Task
from shiftproof.comparison.evaluations import pair_evaluations
from shiftproof.comparison.figures import Figure, PairedFigures, find_scale, make_interval_at
from shiftproof.comparison.gates import Condition, parse_condition
from shiftproof.comparison.grids import pair_grids
from shiftproof.comparison.result import Check, Comparison, Side
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.metrics.intervals import LEVEL
from shiftproof.report import describe_differences
from shiftproof.runs.names import choose_names
from shiftproof.runs.run import AnyRun, EvaluationRun, Run, load_run
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.software import describe_software


def compare(
    baseline: AnyRun[Any] | str | Path,
    candidate: AnyRun[Any] | str | Path,
    *,
    fail_if: str | Sequence[str] = (),
    strict: bool = False,
    model: str | None = None,
    baseline_model: str | None = None,
    task: Task | None = None,
    workers: int = 0,
    show_progress: bool | None = None,
) -> Comparison:
    """Compare a model of one run with a model of another, image by image, from their records.

    Differences are the candidate's figures minus the baseline's, over resamples of the images that
    both share (the paired percentile bootstrap, Efron & Tibshirani 1993, chapter 13). A condition
    fails if the whole 95 % interval is beyond its threshold: the loss is significant. With
    ``strict`` it also fails if part of the interval is beyond: such a loss cannot be excluded. A
    condition on ``any`` corruption is checked for each, at the confidence level 1 - 0.05 / C for C
    corruptions (Bonferroni); with ``strict`` no correction is needed, as any of them fails the
    gate.

    Args:
        baseline: a finished run over the grid, or an evaluation, of the old model.
        candidate: another run of the same kind, on the same data, of the new model.
        fail_if: conditions such as ``"mCE > +1.0"`` (:func:`parse_condition`). Measures are the
            headlines ("mCE", "mPC", "mean", "rPC", "clean", or their titles: "Error under
            corruption", in short "error"), a corruption's name (the mean over its severities), a
            cell ("fog-3"), "worst" (each model's worst corruption), "any" (each
            corruption), and of evaluations the test sets.
        strict: whether conditions also fail if the result is unclear.
        model: a model of the candidate; by default its first.
        baseline_model: a model of the baseline; by default the one with the candidate's name, else
            its first.
        task: the task of runs of a custom task.
        workers: processes that compute scores; 0 uses this process.
        show_progress: None shows it on a terminal only.

    Raises:
        RunMismatchError: different kinds, measures, classes or labels, or nothing in common.
        InputError: an invalid condition, or a run that is not finished or has no records.
        UnknownNameError: no such measure or model.
        BrokenFileError: a file of a run cannot be read.
    """
    texts = [fail_if] if isinstance(fail_if, str) else fail_if
    conditions = [parse_condition(text) for text in texts]
    first, second = runs = [
        run if isinstance(run, AnyRun) else load_run(run) for run in (baseline, candidate)
    ]
    chosen = _choose_model(second, model, None)
    models = (_choose_model(first, baseline_model, chosen), chosen)
    paired = _pair_runs(
        first, second, models, task=task, workers=workers, show_progress=show_progress
    )
    differences = (figure.summarize() for figure in paired.figures)
    return Comparison(
        kind=first.kind,
        baseline=_make_side(first, models[0]),
        candidate=_make_side(second, models[1]),
        images=paired.images,
        cells=paired.cells,
        level=LEVEL,
        strict=strict,
        differences=tuple(one for one in differences if one is not None),
        checks=tuple(check for one in conditions for check in _check(one, paired, strict=strict)),
        warnings=(
            *describe_differences([run.path for run in runs]),
            *describe_software(runs),
            *paired.warnings,
        ),
        notes=tuple(paired.notes),
    )


def _pair_runs(
    baseline: AnyRun[Any],
    candidate: AnyRun[Any],
    models: tuple[str, str],
    *,
    task: Task | None,
    workers: int,
    show_progress: bool | None,
) -> PairedFigures:
    if isinstance(baseline, Run) and isinstance(candidate, Run):
        return pair_grids(
            baseline, candidate, models, task=task, workers=workers, show_progress=show_progress
        )
    if isinstance(baseline, EvaluationRun) and isinstance(candidate, EvaluationRun):
        return pair_evaluations(baseline, candidate, models)
    if baseline.kind != candidate.kind:
        raise RunMismatchError(
            f"{baseline.path} is a run of the kind {baseline.kind!r}, {candidate.path} of "
            f"{candidate.kind!r}; expected two runs of one kind."
        )
    raise InputError(
        f"{baseline.path} is a run of the kind {baseline.kind!r}; expected two runs over the corruption "
        "grid (bench, detect, segment, score) or two evaluations."
    )


def _choose_model(run: AnyRun[Any], name: str | None, default: str | None) -> str:
    """Return ``name`` if given, else ``default`` if the run has it, else its first model."""
    names = [str(model.name) for model in getattr(run.scores, "models", ())]
    if not names:
        raise InputError(f"{run.path} has no models to compare.")
    if name is None:
        return default if default in names else names[0]
    return choose_names([name], names, f"model of {run.path}")[0]


def _make_side(run: AnyRun[Any], model: str) -> Side:
    title = next(one.title for one in run.scores.models if one.name == model)
    return Side(clean_text(run.path.resolve().name), clean_text(model), clean_text(title))


# ---------------------------------------------------------------- conditions


def _check(condition: Condition, paired: PairedFigures, *, strict: bool) -> list[Check]:
    figures = paired.find(condition.measure)
    level = LEVEL if strict else 1 - (1 - LEVEL) / max(1, len(figures))
    return [_check_one(condition, figure, level, strict=strict) for figure in figures]


def _check_one(condition: Condition, figure: Figure, level: float, *, strict: bool) -> Check:
    interval = make_interval_at(figure.change if condition.change else figure.candidate, level)
    scale = find_scale(figure.unit)
    significant = condition.holds_throughout(interval, scale)
    unclear = not significant and condition.holds_somewhere(interval, scale)
    return Check(
        condition=condition.text,
        name=figure.name,
        title=figure.title,
        unit=figure.unit,
        change=condition.change,
        interval=interval,
        threshold=condition.threshold / scale,
        level=level,
        verdict="fail" if significant else "unclear" if unclear else "pass",
        failed=significant or (strict and unclear),
    )
