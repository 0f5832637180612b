"""Comparing two runs: choosing models, pairing images, and checking conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftproof.bench.tasks.interface import Task
from shiftproof.comparison.evaluations import pair_evaluations
from shiftproof.comparison.figures import Figure, Pair, narrow, scale_of
from shiftproof.comparison.gates import Condition, parse_condition
from shiftproof.comparison.grids import pair_grids
from shiftproof.comparison.result import Check, Comparison, Side
from shiftproof.errors import InputError, RunMismatchError, UnknownNameError
from shiftproof.metrics.intervals import LEVEL
from shiftproof.report import describe_differences
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
    conditions = [parse_condition(text) for text in _list_texts(fail_if)]
    those, these = (
        run if isinstance(run, AnyRun) else load_run(run) for run in (baseline, candidate)
    )
    models = _choose_models(those, these, baseline_model, model)
    pair = _measure(those, these, models, task=task, workers=workers, show_progress=show_progress)
    found = (figure.summarize() for figure in pair.figures)
    return Comparison(
        kind=those.kind,
        baseline=_make_side(those, models[0]),
        candidate=_make_side(these, models[1]),
        images=pair.images,
        cells=pair.cells,
        level=LEVEL,
        strict=strict,
        differences=tuple(one for one in found if one is not None),
        checks=tuple(check for one in conditions for check in _check(one, pair, strict=strict)),
        warnings=(*_describe(those, these), *pair.warnings),
    )


def _list_texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _measure(
    baseline: AnyRun[Any],
    candidate: AnyRun[Any],
    models: tuple[str, str],
    *,
    task: Task | None,
    workers: int,
    show_progress: bool | None,
) -> Pair:
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


def _choose_models(
    baseline: AnyRun[Any], candidate: AnyRun[Any], first: str | None, second: str | None
) -> tuple[str, str]:
    chosen = _choose_model(candidate, second, None)
    return _choose_model(baseline, first, chosen), chosen


def _choose_model(run: AnyRun[Any], name: str | None, liked: str | None) -> str:
    models = getattr(run.scores, "models", ())
    names = [str(one.name) for one in models]
    if not names:
        raise InputError(f"{run.path} has no models to compare.")
    if name is None:
        return liked if liked in names else names[0]
    if name not in names:
        raise UnknownNameError.of(f"model of {run.path}", name, names)
    return name


def _make_side(run: AnyRun[Any], model: str) -> Side:
    title = next(one.title for one in run.scores.models if one.name == model)
    return Side(clean_text(run.path.resolve().name), clean_text(model), clean_text(title))


def _describe(baseline: AnyRun[Any], candidate: AnyRun[Any]) -> list[str]:
    """Describe differences between the runs that limit the comparison."""
    return [
        *describe_differences([baseline.path, candidate.path]),
        *describe_software([baseline, candidate]),
    ]


# ---------------------------------------------------------------- conditions


def _check(condition: Condition, pair: Pair, *, strict: bool) -> list[Check]:
    figures = pair.find(condition.measure)
    level = LEVEL if strict else 1 - (1 - LEVEL) / max(1, len(figures))
    return [_check_one(condition, figure, level, strict=strict) for figure in figures]


def _check_one(condition: Condition, figure: Figure, level: float, *, strict: bool) -> Check:
    interval = narrow(figure.change if condition.change else figure.candidate, level)
    scale = scale_of(figure.unit)
    shown = condition.holds_throughout(interval, scale)
    unclear = not shown and condition.holds_somewhere(interval, scale)
    return Check(
        condition=condition.text,
        name=figure.name,
        title=figure.title,
        unit=figure.unit,
        change=condition.change,
        interval=interval,
        threshold=condition.threshold / scale,
        level=level,
        verdict="fail" if shown else "unclear" if unclear else "pass",
        failed=shown or (strict and unclear),
    )
