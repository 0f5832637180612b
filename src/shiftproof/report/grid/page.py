"""The page of runs over the corruption grid: its text and sections, before any markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

from shiftproof.adapt.safeguards.cautions import describe_few_classes, list_cautions
from shiftproof.report import gallery, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid import tables, words
from shiftproof.report.grid.advice import list_steps
from shiftproof.report.grid.conditions import build_conditions_sections
from shiftproof.report.grid.contrasts import (
    build_gains_section,
    build_robustness_section,
    build_separation_section,
)
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.events import build_events_section
from shiftproof.report.grid.overview import build_overview_section, write_lead
from shiftproof.report.grid.ranking import build_ranking_section
from shiftproof.report.grid.sections import (
    Grid,
    build_bars_section,
    build_curves_section,
    build_heat_section,
)
from shiftproof.report.grid.task_page import TaskPage
from shiftproof.report.grid.unlabeled import build_estimates_section
from shiftproof.report.kind import PageKind
from shiftproof.report.listing import build_steps_section
from shiftproof.report.sections import (
    Document,
    Section,
    build_numbers_section,
    build_reading_section,
    build_settings_section,
    describe_corruptions,
    describe_generated_frost,
    describe_setting_differences,
    kicker,
    list_broken_files,
    list_limitations,
    make_byline,
    name_runs,
)
from shiftproof.report.table_writing import Table
from shiftproof.report.wording import find_number_format
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.ranking import Ranking
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.software import describe_software


@final
class GridPage(PageKind[Run, GridScores]):
    """The page of runs over the grid; ``task`` is what is particular about theirs."""

    form = GridScores

    def __init__(
        self,
        task: TaskPage,
        ranking: Ranking | None = None,
        unpaired: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """``ranking`` is that of all models of several runs, ``unpaired`` the reason why there is none,
        and ``notes`` how the runs were brought together.
        """
        self.task = task
        self.ranking = ranking
        self.unpaired = unpaired
        self.notes = notes

    def describe_differences(self, runs: Sequence[Run]) -> list[str]:
        """Describe differences between runs that make their figures incomparable; empty without any."""
        return _describe_setting_differences(PageContent.of(runs), self.task)

    def build(self, runs: Sequence[Run], pictures: Pictures) -> Document:
        """Return the page of one run, or of several side by side."""
        shown, task = PageContent.of(runs), self.task
        grid, alarms = Grid.of(shown, task.spell), _describe_setting_differences(shown, task)
        ranking = self.ranking if len(runs) > 1 else shown.first.scores.ranking
        found = [
            task.first(shown),
            build_overview_section(
                shown, task, alike=not alarms, paired=self.ranking is not None, why=self.unpaired
            ),
            build_steps_section(list_steps(shown, ranking, alarms)),
            build_ranking_section(shown, ranking),
            build_bars_section(grid),
            *([] if alarms else [build_separation_section(grid), build_robustness_section(grid)]),
            build_gains_section(grid),
            build_heat_section(grid),
            build_curves_section(grid),
            *build_conditions_sections(shown, spell=task.spell),
            *task.sections(shown, pictures),
            build_estimates_section(shown),
            build_events_section(shown),
            list_broken_files(runs, task.broken),
            build_numbers_section(
                runs, tables.summarize, tables.write_cells, unit=_make_units(shown.first.scores)
            ),
            build_settings_section(runs),
            task.reading(shown, pictures) or _make_reading(shown),
        ]
        return Document(
            title=_make_title(shown, task),
            kicker=kicker(runs),
            short=wording.capitalize(task.models),
            byline=[
                make_byline(run, name, _make_counts(run.scores))
                for run, name in zip(runs, name_runs(runs), strict=True)
            ],
            lead=[*task.lead(shown), *write_lead(shown, task)],
            sections=[section for section in found if section is not None],
            alarms=alarms,
            warnings=[*self.notes, *_make_warnings(shown, task)],
        )

    def load_pictures(self, runs: Sequence[Run], budget: int, images: Sequence[Path]) -> Pictures:
        """Read the pictures of the first run that has any."""
        form = self.task.gallery
        if form is None:
            return Pictures()
        for run in runs:
            found = run.gallery(form)
            sheets = [list(sheet.files.values()) for sheet in found.sheets]
            cases = [shown for case in found.worst for shown in (case.clean, case.corrupted)]
            worst = [shown.file for shown in cases if shown is not None]
            worst += self.task.list_files(found)
            if sheets or worst:
                sizes = self.task.picture_sizes
                return gallery.load(run.path, sheets, worst, budget=budget, sizes=sizes)
        return Pictures()

    def summarize(self, scores: GridScores) -> Table:
        """Return the clean images, each corruption over its severities, groups, and the headlines."""
        return tables.summarize(scores)


def _make_title(shown: PageContent, task: TaskPage) -> str:
    plain = [entry for entry in shown.entries if entry.adapter is None] or shown.entries[:1]
    titles = list(dict.fromkeys(task.spell(one.scored.title or one.label) for one in plain))
    named = wording.join_list(titles) if len(titles) <= 3 else f"{len(titles)} {task.models}"
    return f"{named} {describe_corruptions(shown.runs)}"


def _make_counts(scores: GridScores) -> list[str]:
    counts = ((scores.used, "image"), (scores.images.objects, "object"))
    return [wording.pluralize(count, name) for count, name in counts if count is not None]


def _make_units(scores: GridScores) -> str:
    units = dict.fromkeys(find_number_format(measure.unit).stored for measure in scores.measures)
    return wording.join_list(list(units))


# ---------------------------------------------------------------- what must be said first


def _describe_setting_differences(shown: PageContent, task: TaskPage) -> list[str]:
    def batch_size(run: Run) -> object:
        # A run without adapters is like any other there.
        adapted = [one for one in shown.runs if one.adapts]
        return (run if run.adapts else adapted[0]).settings.get("batch_size")

    adapts = any(run.adapts for run in shown.runs)
    return describe_setting_differences(
        shown.runs,
        {
            "measure": lambda run: run.scores.measure.title,
            **(
                {
                    "protocol": lambda run: run.settings.get("protocol"),
                    "batch size of the adapters": batch_size,
                }
                if adapts
                else {}
            ),
            **task.differing,
            **_make_corruption_aspects(shown.runs),
        },
    )


def _make_corruption_aspects(runs: Sequence[Run]) -> dict[str, Callable[[Run], object]]:
    """Return each corruption of all runs with how it is made: frost from photographs or drawn, ..."""
    made = [_corruption_settings(run) for run in runs]
    shared = [name for name in made[0] if all(name in one for one in made)]

    def aspect(name: str) -> Callable[[Run], object]:
        return lambda run: _corruption_settings(run)[name]

    return {
        f"how {wording.corruption_title(name).lower()} is made": aspect(name) for name in shared
    }


def _corruption_settings(run: Run) -> Mapping[str, object]:
    found = run.settings.get("corruptions")
    return found if isinstance(found, Mapping) else {}


def _make_warnings(shown: PageContent, task: TaskPage) -> list[str]:
    found = [*task.warnings(shown), *describe_software(shown.runs)]
    for run, name in zip(shown.runs, name_runs(shown.runs), strict=True):
        scores = run.scores
        claimed = f", so {scores.grid.claim} is not reported" if scores.grid.claim else ""
        where = "" if len(shown.runs) == 1 else f"{name}: "
        if scores.grid.missing:
            cells = [wording.title_cell(cell) for cell in scores.grid.missing]
            listed = cells[:8] + ([f"{len(cells) - 8} more"] if len(cells) > 8 else [])
            found.append(
                f"{where}{wording.pluralize(len(cells), 'cell')} of the grid "
                f"{'is' if len(cells) == 1 else 'are'} missing: {wording.join_list(listed)}. They are "
                f"left out and do not count as 0{claimed}."
            )
        if not scores.resampled:
            found.append(
                f"{where}These figures have no intervals: they come from a table of results, and there "
                "are no images to resample. A small difference may be chance."
            )
        frost = describe_generated_frost(run)
        found += [] if frost is None else [f"{where}{frost}"]
        found += [f"{where}{line}" for line in _warn_about_adapters(shown, run)]
        found += [f"{where}{note}." for note in tables.describe_unanswered(scores)]
        found += [f"{where}{line}" for line in run.faults]
        found += list_limitations(scores.images, where)
    return found


def _warn_about_adapters(shown: PageContent, run: Run) -> list[str]:
    """Return warnings of adapters in a run with harmful settings."""
    size, protocol = run.settings.get("batch_size"), run.settings.get("protocol")
    order = protocol.get("order") if isinstance(protocol, Mapping) else None
    if not isinstance(size, int) or not isinstance(order, str):
        return []
    found = []
    for entry in shown.entries:
        if entry.run is run and entry.adapter is not None:
            name = entry.scored.name
            said = list_cautions(entry.adapter, batch_size=size, order=order)
            kept = describe_few_classes(one.event for one in run.events if one.model == name)
            found += [f"{clean_text(name)}: {line}" for line in (*said, *filter(None, [kept]))]
    return found


def _make_reading(shown: PageContent) -> Section:
    scores = shown.first.scores
    return build_reading_section(
        "grid_reading.html.j2",
        {
            "measures": scores.measures,
            "headlines": scores.headlines,
            "level": words.describe_level(scores),
            "interval": scores.interval,
        },
    )
