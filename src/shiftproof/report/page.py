"""Writing the page: one HTML file that opens from disk, asks for nothing, and stays under 10 MB."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from shiftproof._version import __version__
from shiftproof.errors import InputError, MissingExtraError, RunMismatchError
from shiftproof.io import files
from shiftproof.report import gallery
from shiftproof.report.classification import estimates
from shiftproof.report.classification.kind import CLASSIFICATION, warn
from shiftproof.report.detection.kind import DETECTION
from shiftproof.report.detection.pictures import MOST_DRAWN
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid import page as grid_page
from shiftproof.report.grid.entries import GridRun
from shiftproof.report.grid.kind import Kind
from shiftproof.report.probe import page as probe
from shiftproof.report.probe.page import ProbeRun
from shiftproof.report.sections import Document
from shiftproof.report.segmentation.kind import SEGMENTATION
from shiftproof.report.similarity import page as similarity
from shiftproof.report.similarity import pictures as similarity_pictures
from shiftproof.report.similarity import scores as similarity_scores
from shiftproof.report.similarity.scores import SimilarityRun
from shiftproof.report.svg import colors as colours
from shiftproof.report.svg.markup import Html
from shiftproof.runs.opened import OpenRun, read_head
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.probe import ProbeGallery, ProbeScores

if TYPE_CHECKING:
    import jinja2

    from shiftproof.bench.estimates import StreamEstimate

LIMIT = 10_000_000
"""Bytes of a page. Mail servers and browsers on phones take that much."""

AnyRun: TypeAlias = "GridRun | ProbeRun | SimilarityRun"
"""The folder of a run of some kind, read."""

KINDS = {
    "classification": CLASSIFICATION,
    "detection": DETECTION,
    "segmentation": SEGMENTATION,
}
"""What the page of a kind has of its own; that of another kind over the grid has what all have."""


def write_report(
    run: Path | Sequence[Path],
    out: Path | None = None,
    *,
    calibration: Path | None = None,
    images: Sequence[Path] = (),
) -> Path:
    """Write the page of a run, or of several runs side by side, and return its path.

    The page is a function of the runs alone: the same runs give the same bytes.

    Several runs are shown in one page with their models side by side. Where the runs differ in
    what makes a comparison fair (data, images used, corruptions, severities, protocol, encoding,
    seed, classes), the page says so in a banner at its top. Runs of different kinds, or errors
    beside disagreements, or AP beside AP50, are refused: one axis cannot show both. An audit of
    embeddings has a page of its own.

    Args:
        run: the folder of a run, or a list of such folders.
        out: the file to write; the default is ``report.html`` in the (first) run's folder.
        calibration: for one run without labels, the folder of a labelled run of the same model and
            adapters: the page then says how right the model is believed to be, and how far such
            beliefs were off where the truth is known (:func:`~shiftproof.bench.estimate_stream`).
        images: of an audit, folders below which its pictures lie. Pictures elsewhere are not opened,
            whatever the run says of them, but for those in its own folder.

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
    runs = [_within(_read(path), [Path(folder) for folder in images]) for path in paths]
    kinds = {read.kind for read in runs}
    for aspect, values in (("kind", kinds), ("measure", {_measure(read) for read in runs})):
        if len(values) > 1:
            raise RunMismatchError(
                f"The runs differ in their {aspect} ({', '.join(sorted(values))}); expected runs "
                "of one kind to show on one page. Write a report for each."
            )
    stream = None if calibration is None else _estimate(runs, Path(calibration))
    page = b""
    # Nearly always the first budget holds; a page with very much text gets fewer pictures.
    for budget in (gallery.BUDGET, gallery.BUDGET // 3, 0):
        page = _render(environment, runs, stream, budget)
        if len(page) <= LIMIT:
            break
    target = paths[0] / "report.html" if out is None else Path(out)
    files.write_bytes(target, page)
    return target


def _read(path: Path) -> AnyRun:
    head = read_head(path)
    if head.kind == "similarity":
        return similarity_scores.read_run(path)
    if head.kind == "probe":
        return OpenRun(path, ProbeScores, ProbeGallery)
    return OpenRun(path, GridScores, _kind(head.kind).gallery)


def _kind(name: str) -> Kind:
    return KINDS.get(name, Kind())


def _measure(run: AnyRun) -> str:
    measure = run.scores.measure
    return measure if isinstance(measure, str) else measure.name


def _within(run: AnyRun, images: Sequence[Path]) -> AnyRun:
    if isinstance(run, SimilarityRun):
        return similarity_pictures.within(run, images)
    if images:
        raise InputError(
            f"{run.path} keeps its pictures in its own folder; folders of images are named for an "
            "audit of embeddings only."
        )
    return run


def _estimate(runs: Sequence[AnyRun], calibration: Path) -> StreamEstimate:
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


def _build(runs: Sequence[Any], pictures: Pictures, stream: StreamEstimate | None) -> Document:
    """Build the page of runs of one kind, from the runs as they were read."""
    kind = runs[0].kind
    if kind == "similarity":
        return similarity.document(runs, pictures)
    if kind == "probe":
        return probe.document(runs, pictures)
    if stream is None:
        return grid_page.build(runs, _kind(kind), pictures)
    return grid_page.build(
        runs,
        dataclasses.replace(CLASSIFICATION, warnings=functools.partial(warn, believed=True)),
        pictures,
        first=functools.partial(estimates.belief_section, stream),
        lead=functools.partial(estimates.belief_lead, stream),
    )


def _render(
    environment: jinja2.Environment,
    runs: Sequence[AnyRun],
    stream: StreamEstimate | None,
    budget: int,
) -> bytes:
    pictures = _pictures(runs, budget)
    style = (
        environment.get_template("style.css.j2")
        .render({**_palettes(), "most_drawn": MOST_DRAWN})
        .strip()
    )
    script = environment.get_template("script.js.j2").render().strip()
    text = environment.get_template("page.html.j2").render(
        page=_build(runs, pictures, stream),
        policy=_policy(style, script),
        style=Html(style),
        script=Html(script),
        version=__version__,
    )
    return text.encode("utf-8")


def _pictures(runs: Sequence[AnyRun], budget: int) -> Pictures:
    """Return the pictures of the first run that has any."""
    first = runs[0]
    if isinstance(first, SimilarityRun):
        return similarity_pictures.load(first, budget=budget)
    kept = [run for run in runs if not isinstance(run, SimilarityRun)]
    pictured = next((run for run in kept if run.gallery.sheets or run.gallery.worst), kept[0])
    return gallery.load(
        pictured.path,
        pictured.gallery,
        budget=budget,
        sizes=_kind(pictured.kind).picture_sizes,
    )


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
            "sequential": colours.sequential(dark=False),
            "diverging": colours.diverging(dark=False),
            "models": colours.MODEL_LIGHT,
        },
        "dark": {
            "sequential": colours.sequential(dark=True),
            "diverging": colours.diverging(dark=True),
            "models": colours.MODEL_DARK,
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
