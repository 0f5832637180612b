"""The page of probes of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from shiftproof.report import gallery, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.kind import PageKind
from shiftproof.report.listing import Step, build_steps_section
from shiftproof.report.probe import tables
from shiftproof.report.probe import wording as probe_wording
from shiftproof.report.probe.sections import (
    ProbeEntry,
    build_factor_sections,
    build_overview_section,
    build_readings_section,
    build_strips_section,
)
from shiftproof.report.sections import (
    Document,
    Section,
    build_numbers_section,
    build_reading_section,
    build_settings_section,
    describe_setting_differences,
    label_models,
    list_broken_files,
    make_byline,
    name_runs,
)
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import ProbeRun
from shiftproof.runs.scores.probe import ProbeGallery, ProbeScores

BROKEN = "An image that cannot be read is left out for every factor and every model alike."


@final
class ProbePage(PageKind[ProbeRun, ProbeScores]):
    """What encoders keep, hide and have collapsed."""

    form = ProbeScores

    def build(self, runs: Sequence[ProbeRun], pictures: Pictures) -> Document:
        """Return the page of one run, or of several side by side."""
        shown = [ProbeEntry(*one) for one in label_models(runs)]
        encoders = [entry for entry in shown if entry.scored.control is None]
        sections = [
            build_overview_section(runs, shown),
            build_steps_section(_list_steps(encoders)),
            *build_factor_sections(runs, shown),
            build_strips_section(runs, pictures),
            build_readings_section(shown),
            list_broken_files(runs, BROKEN),
            build_numbers_section(runs, tables.summarize, tables.write_readings, unit="fractions"),
            build_settings_section(runs),
            _make_reading(runs[0].scores),
        ]
        names = list(dict.fromkeys(entry.scored.title or entry.label for entry in encoders))
        return Document(
            title=f"What {wording.join_list(names)} {'keeps' if len(names) == 1 else 'keep'}",
            kicker="Probe" if len(runs) == 1 else f"Comparison of {len(runs)} probes",
            short="Encoders",
            byline=[
                make_byline(run, name, _make_counts(run.scores))
                for run, name in zip(runs, name_runs(runs), strict=True)
            ],
            lead=[_tell(entry, len(runs)) for entry in encoders[:4]],
            sections=[section for section in sections if section is not None],
            alarms=describe_setting_differences(
                runs, {"versions": lambda run: run.settings.get("versions")}
            ),
            warnings=[
                words for run in runs if (words := probe_wording.warn_few(run.scores)) is not None
            ][:1],
        )

    def load_pictures(
        self, runs: Sequence[ProbeRun], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Read the pictures of the first run that has any."""
        for run in runs:
            if strips := run.gallery(ProbeGallery).strips:
                files = [[picture.file for picture in strip.pictures] for strip in strips]
                return gallery.load(run.path, files, budget=budget)
        return Pictures()

    def summarize(self, scores: ProbeScores) -> Table:
        """Return what is kept of each factor, group by group, most first."""
        return tables.summarize(scores)


def _tell(entry: ProbeEntry, runs: int) -> str:
    label = entry.scored.title or entry.label if runs == 1 else entry.label
    return " ".join(probe_wording.write_findings(entry.run.scores, entry.scored, label))


def _list_steps(encoders: Sequence[ProbeEntry]) -> list[Step]:
    """Return what follows: more images, what a task must not need, where a network would be asked."""
    found = []
    for entry in encoders:
        scores = entry.run.scores
        by_verdict = {
            verdict: [
                probe_wording.name_factor(factor)
                for factor in probe_wording.find_by_verdict(scores, entry.scored, verdict)
            ]
            for verdict in ("collapsed", "hidden", "undecided")
        }
        if by_verdict["collapsed"]:
            found.append(
                Step(
                    f"Do not use {entry.label} for a task that needs "
                    f"{wording.join_list(by_verdict['collapsed'])}: no head can recover collapsed factors."
                )
            )
        if by_verdict["hidden"]:
            found.append(
                Step(
                    f"A linear head on {entry.label} cannot predict "
                    f"{wording.join_list(by_verdict['hidden'])}, but a small network can."
                )
            )
        if by_verdict["undecided"]:
            found.append(
                Step(
                    f"To decide about {wording.join_list(by_verdict['undecided'])} in {entry.label}, use "
                    f"more images: four times the {scores.used:,} images halve an interval."
                )
            )
    return found


def _make_counts(scores: ProbeScores) -> list[str]:
    return [
        wording.pluralize(scores.used, "image"),
        wording.pluralize(len(scores.factors), "factor"),
        wording.pluralize(scores.images.versions, "version"),
    ]


def _make_reading(scores: ProbeScores) -> Section:
    return build_reading_section(
        "probe_reading.html.j2",
        {
            "level": wording.level(scores.interval.level),
            "interval": scores.interval,
            "collapsed": wording.share(scores.collapsed_below),
        },
    )
