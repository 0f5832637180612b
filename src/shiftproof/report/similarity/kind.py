"""The page of an audit of train-test similarity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from shiftproof.report import wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.kind import PageKind
from shiftproof.report.listing import Step, build_steps_section
from shiftproof.report.sections import (
    Document,
    Section,
    build_numbers_section,
    build_reading_section,
    build_settings_section,
    describe_start,
)
from shiftproof.report.similarity import tables
from shiftproof.report.similarity import wording as similarity_wording
from shiftproof.report.similarity.pictures import build_leakage_section, load_pictures
from shiftproof.report.similarity.sections import (
    build_certificates_section,
    build_classes_section,
    build_curves_section,
    build_overview_section,
    build_pruning_section,
)
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import AuditRun
from shiftproof.runs.scores.audit import AuditScores


@final
class AuditPage(PageKind[AuditRun, AuditScores]):
    """Similarity of a training set to test sets; each audit has its own page."""

    form = AuditScores
    takes_images = True

    def build(self, runs: Sequence[AuditRun], pictures: Pictures) -> Document:
        """Return the page of one audit; figures of two depend on their encoders and training sets."""
        [run] = runs
        scores = run.scores
        sections = [
            build_overview_section(scores),
            build_steps_section(_list_steps(scores)),
            build_curves_section(scores),
            build_leakage_section(scores, pictures),
            build_pruning_section(scores),
            build_classes_section(scores),
            build_certificates_section(scores),
            build_numbers_section(
                runs, tables.summarize, tables.write_curves, unit="counts and shares"
            ),
            build_settings_section(runs),
            _make_reading(scores),
        ]
        names = [each.name for each in scores.sets]
        return Document(
            title=f"Is it only similarity? {wording.join_list(names[:4])}"
            + (f" and {len(names) - 4} more" if len(names) > 4 else ""),
            kicker="Train-test similarity",
            short="Audit",
            byline=[_make_byline(run)],
            lead=similarity_wording.write_lead(scores),
            sections=[section for section in sections if section is not None],
            warnings=similarity_wording.list_warnings(scores),
        )

    def load_pictures(
        self, runs: Sequence[AuditRun], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Read the pictures of the closest pairs, from the run's own folder and from ``images``."""
        return load_pictures(runs[0], budget, images)

    def summarize(self, scores: AuditScores) -> Table:
        """Return the figures of every test set."""
        return tables.summarize(scores)


def _list_steps(scores: AuditScores) -> list[Step]:
    """Return suggested next steps: rows to remove, a reference, or an evaluation."""
    found = []
    near = [one.name for one in scores.sets if one.near_duplicates.value > 0]
    if near:
        found.append(
            Step(
                f"Some training rows have a similarity of {scores.duplicates:g} or more to images of "
                f"{wording.join_list(near)}. Look at the closest pairs, and remove these rows before you "
                "trust an accuracy on these test sets.",
                "shiftproof prune",
            )
        )
    if scores.reference is None:
        found.append(
            Step(
                "Give a reference, such as the embeddings of ImageNet’s training set. Only a comparison "
                "with a reference shows whether this training set is closer than usual.",
                "shiftproof audit --reference EMBEDDINGS",
            )
        )
    found.append(
        Step(
            "See whether the accuracy of a model follows the similarity.",
            "shiftproof evaluate --audit AUDIT",
        )
    )
    return found


def _make_byline(run: AuditRun) -> list[str]:
    scores = run.scores
    counts = [
        (scores.train.rows, "training row"),
        *([] if scores.reference is None else [(scores.reference.rows, "reference row")]),
        (sum(each.rows for each in scores.sets), "test row"),
    ]
    return [
        *(wording.pluralize(count, what) for count, what in counts),
        f"{scores.train.width} wide",
        *describe_start(run),
    ]


def _make_reading(scores: AuditScores) -> Section:
    return build_reading_section(
        "similarity_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "k": scores.k,
            "threshold": f"{scores.duplicates:g}",
            "reference": scores.reference is not None,
        },
    )
