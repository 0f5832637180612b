"""The page of runs over the corruption grid: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shiftproof.metrics.intervals import Interval
from shiftproof.report import numbers, provenance, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid import figures, overview, sections, tables, words
from shiftproof.report.grid.entries import Change, Entry, GridRun, Shown
from shiftproof.report.grid.events import events_section
from shiftproof.report.grid.figures import Column
from shiftproof.report.grid.kind import Kind
from shiftproof.report.grid.sections import Grid
from shiftproof.report.sections import Document, Section, run_names
from shiftproof.report.spelling import Spelling, spelling_of
from shiftproof.report.svg import colors as colours
from shiftproof.runs.scores.grid import GridScores, Measure, Scored


def build(
    runs: Sequence[GridRun],
    kind: Kind,
    pictures: Pictures,
    *,
    first: Callable[[Shown], Section | None] = lambda shown: None,
    lead: Callable[[Shown], list[str]] = lambda shown: [],
) -> Document:
    """Build the page of one run, or of several side by side.

    Args:
        runs: all of one kind.
        kind: what is particular about it.
        pictures: those of the first run that has any.
        first: a section that stands before all others.
        lead: sentences that stand before all others.
    """
    shown = Shown.of(runs)
    grid = _grid(shown, kind)
    found = [
        first(shown),
        _overview(shown, kind),
        sections.bars_section(grid),
        _heat(grid, shown),
        _curves(grid, shown),
        *kind.sections(shown, pictures),
        events_section(shown),
        provenance.broken_section(runs, kind.broken),
        numbers.numbers_section(
            runs,
            lambda run: tables.summarize(run.scores),
            lambda run: tables.write_cells(run.scores),
            unit=_units(shown.first.scores),
        ),
        provenance.settings_section(runs),
        kind.reading(shown, pictures) or _reading(shown),
    ]
    return Document(
        title=_title(shown, kind),
        kicker=provenance.kicker(runs),
        byline=[
            provenance.byline(run, name, _counts(run.scores))
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=[*lead(shown), *_lead(shown, kind)],
        sections=[section for section in found if section is not None],
        alarms=_differing(shown, kind),
        warnings=_warnings(shown, kind),
    )


def _title(shown: Shown, kind: Kind) -> str:
    plain = [entry for entry in shown.entries if entry.adapter is None] or shown.entries[:1]
    titles = list(dict.fromkeys(kind.spell(one.scored.title or one.label) for one in plain))
    named = wording.listing(titles) if len(titles) <= 3 else f"{len(titles)} {kind.models}"
    return f"{named} {provenance.under_corruption(shown.runs)}"


def _counts(scores: GridScores) -> list[str]:
    counts = ((scores.used, "image"), (scores.images.objects, "object"))
    return [wording.plural(count, name) for count, name in counts if count is not None]


def _units(scores: GridScores) -> str:
    units = dict.fromkeys(spelling_of(measure.unit).stored for measure in scores.measures)
    return wording.listing(list(units))


# ---------------------------------------------------------------- what must be said first


def _differing(shown: Shown, kind: Kind) -> list[str]:
    def batch_size(run: GridRun) -> object:
        # A run without adapters is like any other there.
        adapted = [one for one in shown.runs if one.adapts]
        return (run if run.adapts else adapted[0]).settings.get("batch_size")

    adapts = any(run.adapts for run in shown.runs)
    return provenance.differing(
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
            **kind.differing,
        },
    )


def _warnings(shown: Shown, kind: Kind) -> list[str]:
    found = kind.warnings(shown)
    for run, name in zip(shown.runs, run_names(shown.runs), strict=True):
        scores = run.scores
        claimed = f", so no {scores.grid.claim} is claimed" if scores.grid.claim else ""
        where = "" if len(shown.runs) == 1 else f"{name}: "
        if scores.grid.missing:
            cells = [wording.cell_title(cell) for cell in scores.grid.missing]
            listed = cells[:8] + ([f"{len(cells) - 8} more"] if len(cells) > 8 else [])
            found.append(
                f"{where}{wording.plural(len(cells), 'cell')} of the grid "
                f"{'is' if len(cells) == 1 else 'are'} missing: {wording.listing(listed)}. They count "
                f"as nothing, not as 0{claimed}."
            )
        if not scores.resampled:
            found.append(
                f"{where}These figures have no intervals: they come from a table of results, and there "
                "are no images to resample. A small difference may be chance."
            )
        frost = provenance.describe_drawn_frost(run)
        found += [] if frost is None else [f"{where}{frost}"]
        found += [f"{where}{note}." for note in tables.describe_unanswered(scores)]
        found += [f"{where}{line}" for line in run.faults]
        found += provenance.doubts(scores.images, where)
    return found


# ---------------------------------------------------------------- overview


def _lead(shown: Shown, kind: Kind) -> list[str]:
    plain = [entry for entry in shown.entries if entry.adapter is None]
    single = len(shown.runs) == 1 and len(plain) <= 1

    def headline(entry: Entry) -> str:
        label = kind.spell(entry.scored.title or entry.label) if single else entry.label
        return kind.headline(entry.run.scores, entry.scored, label)

    def finding(change: Change) -> str:
        scores = change.run.scores
        return words.finding(scores, change.scored, change.entry.label, kind.words(scores))

    return overview.lead(shown, headline, finding)


def _overview(shown: Shown, kind: Kind) -> Section:
    scores = shown.first.scores
    reach = overview.reach_of(
        (change.scored.summary.get("mean") for change in shown.changes), words.spelling(scores)
    )
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": [
                card
                for one in scores.headlines
                if one.card and (card := overview.card(shown, one)) is not None
            ],
            "changes": [_change_card(change, reach, kind) for change in shown.changes],
            "reasons": overview.reasons(shown.runs)
            if scores.measure.name != "disagreement"
            else [],
            "claim": scores.grid.claim,
            "lower": scores.measure.lower_is_better,
            "alike": not _differing(shown, kind),
            "protocols": provenance.protocols(shown.runs)
            if any(run.adapts for run in shown.runs)
            else [],
            "level": words.level(scores),
            "several": len(shown.runs) > 1,
            "measure": shown.measure,
        },
    )


def _change_card(change: Change, reach: float, kind: Kind) -> dict[str, object]:
    scores = change.run.scores
    lower = scores.measure.lower_is_better
    moved = change.scored.of_corruptions(scores.measure.name)
    worse = [pair for pair in moved.items() if pair[1].value and (pair[1].value > 0) == lower]
    return overview.change_card(
        change,
        change.scored.summary.get("mean"),
        sorted(worse, key=lambda pair: -abs(pair[1].value)),
        reach=reach,
        lower_is_better=lower,
        spelling=words.spelling(scores),
        verdict=words.verdict(
            scores, change.scored, change.entry.label, change.against.label, kind.words(scores)
        ),
        clean=words.clean_verdict(scores, change.scored),
        tally=words.tally(list(moved.values()), lower_is_better=lower),
    )


# ---------------------------------------------------------------- over the grid


def _column(run: GridRun, label: str, scored: Scored) -> Column:
    name = run.scores.measure.name
    return Column(
        run,
        label,
        clean=scored.of_clean(name) if "clean" in scored.summary else None,
        cells=scored.of_cells(name),
        corruptions=scored.of_corruptions(name),
        mean=scored.summary.get("mean"),
        groups=scored.of_groups(name),
    )


def _grid(shown: Shown, kind: Kind) -> Grid:
    columns = [_column(one.run, one.label, one.scored) for one in shown.entries]
    scores = shown.first.scores
    return Grid(
        shown,
        columns,
        [_column(one.run, one.label, one.scored) for one in shown.changes],
        measure=shown.measure,
        level=words.level(scores),
        clean=any(column.clean for column in columns),
        lower_is_better=scores.measure.lower_is_better,
        spelling=words.spelling(scores),
        spell=kind.spell,
    )


def _heat(grid: Grid, shown: Shown) -> Section:
    """Build the heat maps: an error is painted as it is, a performance by what is lost of the clean one."""
    measure, lower = shown.first.scores.measure, grid.lower_is_better
    spelling = grid.spelling
    reach = figures.reach_of(grid.differences, spelling)
    low, top = figures.scale_of(grid.columns, spelling)
    by_loss = not lower and all(
        one.clean is not None and one.clean.value > 0 for one in grid.columns
    )

    def paint_change(figure: Interval, title: str) -> dict[str, str]:
        return figures.paint_difference(
            figure, title, reach, lower_is_better=lower, spelling=spelling
        )

    def label(step: int) -> str:
        if by_loss:
            return f"{10 * step}"
        return spelling.tick(low + (top - low) * (step if lower else 10 - step) / 10)

    steps = [(f"s{colours.sequential_level(step / 10)}", label(step)) for step in range(0, 11, 2)]
    scale = f"% of the clean {grid.measure} lost" if by_loss else f"{spelling.before}{grid.measure}"
    scales = [(steps, f"{scale}, better to worse")]
    said = [
        f"{wording.capital(grid.measure)}{spelling.phrase} for each corruption and severity; the last column "
        "is the mean over the severities, and beside the name of a group stands the mean over the "
        "group."
    ]
    if not lower:
        said.append(
            f"The colour says which share of the model's own clean {grid.measure} is lost."
            if by_loss
            else "The darker, the less."
        )
    if shown.changes:
        scales.append(figures.difference_scale(reach, lower_is_better=lower, spelling=spelling))
        better, worse = (
            ("a minus sign", "a plus sign") if lower else ("a plus sign", "a minus sign")
        )
        beyond = (
            f", and bold means that the {grid.level} interval leaves out 0" if grid.level else ""
        )
        said.append(
            f"In a difference, blue and {better} mean better, orange and {worse} worse{beyond}."
        )
    maps = [
        *(
            figures.heat_map(
                column,
                _painter(measure, column.clean if by_loss else None, spelling, (low, top)),
                difference=False,
                clean=column.clean is not None,
                spelling=spelling,
            )
            for column in grid.columns
        ),
        *(
            figures.heat_map(
                column,
                paint_change,
                difference=True,
                clean=column.clean is not None,
                spelling=spelling,
            )
            for column in grid.differences
        ),
    ]
    return sections.heat_section(maps, said, scales)


def _painter(
    measure: Measure, clean: Interval | None, spelling: Spelling, ends: tuple[float, float]
) -> figures.Paint:
    """Color a cell by the figure on a scale with ``ends``, or by what is lost of the clean figure."""
    low, top = ends

    def paint(figure: Interval, title: str) -> dict[str, str]:
        lost = (figure.value - low) / (top - low)
        said = f"{title}: {spelling.with_span(figure)}"
        if not measure.lower_is_better:
            lost = 1 - (lost if clean is None else figure.value / clean.value)
            said = f"{title}: {measure.name} {spelling.with_span(figure)}"
        if clean is not None and title != "Clean":
            said += (
                f", {wording.share(abs(lost))} of the clean one {'lost' if lost >= 0 else 'more'}"
            )
        return {
            "text": spelling.figure(figure.value),
            "style": f"s{colours.sequential_level(lost)}",
            "title": said,
        }

    return paint


def _curves(grid: Grid, shown: Shown) -> Section:
    scores = shown.first.scores
    counted = any(cell.images is not None for one in shown.entries for cell in one.scored.cells)
    further = scores.measures[1:]
    extra = tables.number_names([run.scores for run in shown.runs])
    titles = [
        "Model", "Corruption", "Severity", *(["Images"] if counted else []),
        wording.capital(grid.measure), "Interval",
        *(wording.capital(measure.title) for measure in further), *extra,
    ]  # fmt: skip
    rows = []
    marked: list[Entry | Change] = [*shown.entries, *shown.changes]
    for one in marked:
        signed = one.scored.against is not None
        spelling = words.spelling(one.run.scores)
        spell = spelling.change if signed else spelling.figure
        for corruption, severity, found in one.run.scores.every_cell(one.scored):
            figure = found.figures.get(grid.measure)
            if figure is None and corruption == "clean":
                continue
            rows.append(
                [
                    one.label,
                    wording.corruption_title(corruption),
                    str(severity or wording.NONE),
                    *([wording.count(found.images)] if counted else []),
                    spell(wording.value_of(figure)),
                    (spelling.change_span if signed else spelling.span)(figure),
                    *(
                        _spell_further(each, found.figures.get(each.name), signed=signed)
                        for each in further
                    ),
                    # Numbers beside the measures name no unit: they have that of the first.
                    *(spell(found.numbers.get(name)) for name in extra),
                ]
            )
    return sections.curves_section(grid, titles, rows)


def _spell_further(measure: Measure, figure: Interval | None, *, signed: bool) -> str:
    """Spell a cell of a column of its own; a difference of losses is without a plus sign."""
    spelling = spelling_of(measure.unit)
    plain = not signed or measure.unit == "nats"
    return (spelling.figure if plain else spelling.change)(wording.value_of(figure))


def _reading(shown: Shown) -> Section:
    scores = shown.first.scores
    return Section(
        "reading",
        "How to read this",
        "How to read",
        "grid_reading.html.j2",
        {
            "measures": scores.measures,
            "headlines": scores.headlines,
            "level": words.level(scores),
            "interval": scores.interval,
            "few": wording.FEW_IMAGES,
        },
    )
