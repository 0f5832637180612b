"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import msgspec

from shiftproof.report import wording
from shiftproof.report.evaluation import tables
from shiftproof.report.evaluation.sections import (
    build_beside_sections,
    build_overview_section,
    reading_of,
)
from shiftproof.report.gallery import Pictures
from shiftproof.report.kind import PageKind
from shiftproof.report.listing import Step, build_steps_section
from shiftproof.report.sections import (
    Document,
    build_numbers_section,
    build_settings_section,
    list_broken_files,
    make_byline,
    name_runs,
)
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import EvaluationRun
from shiftproof.runs.scores.evaluation import AuditFigures, EvaluationScores

BROKEN = "An image that cannot be read is left out for every model alike."


@final
class EvaluationPage(PageKind[EvaluationRun, EvaluationScores]):
    """Accuracies on test sets, and the training set's similarity to them."""

    form = EvaluationScores

    def __init__(self, audit: AuditFigures | None = None) -> None:
        """``audit`` is shown with evaluations that have no audit of their own."""
        self.audit = audit

    def build(self, runs: Sequence[EvaluationRun], pictures: Pictures) -> Document:
        """Return the page of one evaluation; put models to compare into a single one."""
        [run] = runs
        scores = run.scores
        if scores.audit is None and self.audit is not None:
            scores = msgspec.structs.replace(scores, audit=self.audit)
        looks = {
            model.name: SeriesStyle(model.name, place) for place, model in enumerate(scores.models)
        }
        beside = [] if scores.audit is None else build_beside_sections(scores, scores.audit, looks)
        sections = [
            build_overview_section(scores, looks),
            build_steps_section(_list_steps(scores)),
            *beside,
            list_broken_files(runs, BROKEN),
            build_numbers_section(runs, tables.summarize, tables.write_figures, unit="fractions"),
            build_settings_section(runs),
            reading_of(scores),
        ]
        names = [model.title or model.name for model in scores.models]
        counts = [
            wording.pluralize(len(scores.sets), "test set"),
            wording.pluralize(scores.used, "image"),
        ]
        return Document(
            title=f"Accuracy of {wording.join_list(names[:3])}"
            + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
            kicker="Evaluation",
            short="Evaluation",
            byline=[make_byline(run, name_runs(runs)[0], counts)],
            lead=_make_lead(scores),
            sections=[section for section in sections if section is not None],
            warnings=_make_warnings(scores),
        )

    def load_pictures(
        self, runs: Sequence[EvaluationRun], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Return no pictures: an evaluation has none."""
        return Pictures()

    def summarize(self, scores: EvaluationScores) -> Table:
        """Return the accuracies, with the results of an audit."""
        return tables.summarize(scores)


def _list_steps(scores: EvaluationScores) -> list[Step]:
    """Return suggested next steps: an audit, or more labeled images."""
    found = []
    if scores.audit is None:
        found.append(
            Step(
                "Compare these accuracies with an audit of the training set: accuracy is mostly higher "
                "on test sets that are closer to it.",
                "shiftproof report EVALUATION AUDIT",
            )
        )
    similar = [
        one.name
        for one in scores.differences
        if all(figure.accuracy.spans_zero for figure in one.sets.values())
    ]
    if similar:
        found.append(
            Step(
                f"No significant difference of {wording.join_list(similar)} from {scores.models[0].name} on "
                "any test set: choose by size or speed, or measure on more images."
            )
        )
    return found


def _make_lead(scores: EvaluationScores) -> list[str]:
    found = []
    for model in scores.models[:4]:
        said = [
            f"{wording.share(figure.accuracy.value)} on {name}"
            for name, figure in model.sets.items()
        ]
        found.append(f"The accuracy of {model.title or model.name} is {wording.join_list(said)}.")
    return found


def _make_warnings(scores: EvaluationScores) -> list[str]:
    found = [
        f"{one.name}: only {wording.pluralize(one.used, 'image')}, so its intervals are wide."
        if one.used > 1
        else f"{one.name}: only 1 image, so there are no intervals."
        for one in scores.sets
        if one.used < wording.FEW_IMAGES
    ]
    audit = scores.audit
    if audit is not None and audit.missing:
        found.append(
            f"The audit has no test set {wording.join_list(list(audit.missing))}, so its similarity to "
            "the training set is unknown."
        )
    if audit is not None:
        found += [
            f"{name}: no row of the audit has the name of an image of this evaluation, so there is no "
            "curve within this test set. Embed the test set from the same folder."
            for name, each in audit.sets.items()
            if not each.matched
        ]
        found += [
            f"{name}: {each.matched:,} of {each.rows:,} rows of the audit "
            f"{'is an image' if each.matched == 1 else 'are images'} of this "
            "evaluation. The curve is only over these rows."
            for name, each in audit.sets.items()
            if 0 < each.matched < each.rows
        ]
    return found
