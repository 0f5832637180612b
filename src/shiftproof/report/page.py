"""Writing the page: one HTML file that opens from disk, asks for nothing, and stays under 10 MB."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof._version import __version__
from shiftproof.errors import InputError, MissingExtraError, RunMismatchError
from shiftproof.io import files
from shiftproof.report import gallery
from shiftproof.report.classification.kind import believe
from shiftproof.report.detection.pictures import MOST_DRAWN
from shiftproof.report.grid.page import GridPage
from shiftproof.report.grid.ranking import ranking_for_terminal
from shiftproof.report.kinds import find_kind
from shiftproof.report.sections import Document, run_names
from shiftproof.report.svg import colors
from shiftproof.report.svg.markup import Html
from shiftproof.runs.run import AnyRun, Run, load_run
from shiftproof.runs.scores.ranking import Ranking

if TYPE_CHECKING:
    import jinja2
    from rich.console import Console

    from shiftproof.bench.estimates import StreamEstimate

LIMIT = 10_000_000
"""Bytes of a page. Mail servers and browsers on phones take that much."""


def write_report(
    run: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    images: Sequence[str | Path] = (),
) -> Path:
    """Write the page of a run, or of several runs side by side, and return its path.

    The page is a function of the runs alone: the same runs give the same bytes.

    Several runs are shown in one page with their models side by side. Where the runs differ in
    what makes a comparison fair (data, images used, corruptions, severities, protocol, encoding,
    seed, classes), the page says so in a banner at its top. Runs of different kinds, or errors
    beside disagreements, or AP beside AP50, are refused: one axis cannot show both. Where runs are
    like for like their models are ranked together, paired by image from the records. An audit of
    embeddings has a page of its own.

    Args:
        run: the folder of a run, or a list of such folders.
        out: the file to write; the default is ``report.html`` in the (first) run's folder.
        calibration: for one run without labels, the folder of a labeled run of the same model and
            adapters: the page then says how right the model is believed to be, and how far such
            beliefs were off where the truth is known (:func:`~shiftproof.bench.estimate_stream`).
        images: of an audit, folders below which its pictures lie; ``NAME=FOLDER`` those of one test
            set, or of ``train``. Pictures elsewhere are not opened, whatever the run says of them,
            but for those in its own folder.

    Raises:
        InputError: a folder is not a finished run, ``out`` cannot be written to, or
            ``calibration`` cannot calibrate this, or ``images`` are named for no audit.
        BrokenFileError: a file of the run is damaged; the message names the place.
        RunMismatchError: the runs cannot be shown on one page, or ``calibration`` is a run of
            another model.
        MissingExtraError: jinja2 is not installed.
    """
    environment = _environment()
    paths = [Path(run)] if isinstance(run, str | Path) else [Path(path) for path in run]
    if not paths:
        raise InputError("Expected the folder of a run, got an empty list.")
    runs = [load_run(path) for path in paths]
    _check_alike(runs)
    kind = find_kind(runs[0].kind)
    if calibration is not None:
        kind = GridPage(believe(_estimate(runs, Path(calibration))))
    elif len(runs) > 1 and isinstance(kind, GridPage):
        kind = GridPage(kind.kind, *_rank(kind, runs))
    folders = [Path(folder) for folder in images]
    if folders and not kind.takes_images:
        raise InputError(
            f"{runs[0].path} keeps its pictures in its own folder; folders of images are named for an "
            "audit of embeddings only."
        )
    page = b""
    # Nearly always the first budget holds; a page with very much text gets fewer pictures.
    for budget in (gallery.BUDGET, gallery.BUDGET // 3, 0):
        page = _render(environment, kind.build(runs, kind.load_pictures(runs, budget, folders)))
        if len(page) <= LIMIT:
            break
    target = paths[0] / "report.html" if out is None else Path(out)
    files.write_bytes(target, page)
    return target


def describe_differences(run: Sequence[str | Path]) -> list[str]:
    """Say in what several runs differ that makes their figures no fair comparison.

    Returns:
        Sentences; none where the runs are like for like, or are of a kind without a page for several.

    Raises:
        InputError: a folder is not a finished run.
        BrokenFileError: a file of a run is damaged.
        RunMismatchError: runs of different kinds or measures.
    """
    runs = [load_run(path) for path in run]
    _check_alike(runs)
    alike = [one for one in runs if isinstance(one, Run)]
    kind = find_kind(alike[0].kind) if alike else None
    return kind.describe_differences(alike) if isinstance(kind, GridPage) else []


def _rank(
    kind: GridPage, runs: Sequence[AnyRun[Any]], *, show_progress: bool | None = None
) -> tuple[Ranking | None, str | None]:
    """Return the ranking of all models of runs that are alike, or why there is none."""
    from shiftproof.bench import rank_runs

    alike = [run for run in runs if isinstance(run, Run)]
    if kind.describe_differences(alike):
        return None, None  # said at the top of the page
    try:
        return rank_runs(alike, run_names(alike), show_progress=show_progress), None
    except (InputError, RunMismatchError) as error:
        return None, str(error)


def print_ranking(run: Sequence[str | Path], console: Console) -> None:
    """Print the ranking of the models of several runs to a terminal, paired by image.

    Raises:
        RunMismatchError: the runs are not like for like; the message names what differs.
        InputError: a folder is not a finished run; a kind whose models cannot be ranked.
        BrokenFileError: a file of a run is damaged.
    """
    runs = [load_run(path) for path in run]
    _check_alike(runs)
    kind = find_kind(runs[0].kind)
    if not isinstance(kind, GridPage):
        raise InputError(
            f"Runs of the kind {runs[0].kind!r} are not ranked together; give one folder."
        )
    alike = [one for one in runs if isinstance(one, Run)]
    if told := kind.describe_differences(alike):
        raise RunMismatchError(" ".join(told))
    ranking, why = _rank(kind, alike)
    shown = ranking_for_terminal(alike[0].scores, ranking)
    if shown is None:
        raise InputError(why or "These runs have no headline to rank their models by.")
    console.print(shown)


def _check_alike(runs: Sequence[AnyRun[Any]]) -> None:
    kinds, measures = {run.kind for run in runs}, {_measure(run) for run in runs}
    for aspect, values in (("kind", kinds), ("measure", measures)):
        if len(values) > 1:
            raise RunMismatchError(
                f"The runs differ in their {aspect} ({', '.join(sorted(values))}); expected runs "
                "of one kind to show on one page. Write a report for each."
            )


def _measure(run: AnyRun[Any]) -> str:
    measure = run.scores.measure
    return measure if isinstance(measure, str) else measure.name


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
    if _measure(runs[0]) == "error":
        raise InputError(
            f"{runs[0].path} has labels: its errors are measured and need no estimate. Leave the "
            "calibration out."
        )
    return estimate_stream(runs[0].path, calibration)


def _render(environment: jinja2.Environment, page: Document) -> bytes:
    style = (
        environment.get_template("style.css.j2")
        .render({**_palettes(), "most_drawn": MOST_DRAWN})
        .strip()
    )
    script = environment.get_template("script.js.j2").render().strip()
    text = environment.get_template("page.html.j2").render(
        page=page,
        policy=_policy(style, script),
        style=Html(style),
        script=Html(script),
        version=__version__,
    )
    return text.encode("utf-8")


def _policy(style: str, script: str) -> str:
    """Return the content security policy: this style and this script by their hash, data images.

    Nothing else: no network, no inline handlers, no style attributes, no frames, no forms. Markup
    that got past the escaping all the same could not run or call home.
    """
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _palettes() -> Mapping[str, object]:
    return {
        "light": {
            "sequential": colors.sequential(dark=False),
            "diverging": colors.diverging(dark=False),
            "models": colors.MODEL_LIGHT,
        },
        "dark": {
            "sequential": colors.sequential(dark=True),
            "diverging": colors.diverging(dark=True),
            "models": colors.MODEL_DARK,
        },
    }


def _environment() -> jinja2.Environment:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.of("jinja2", "report") from error
    return _templates()


@functools.lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    """Return the templates; compiling them takes longer than filling them in."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("shiftproof.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
