"""Writing the page: one HTML file that opens from disk, asks for nothing, and stays under 10 MB."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof._version import __version__
from shiftproof.errors import InputError, MissingExtraError
from shiftproof.io import files
from shiftproof.report import gallery, wording
from shiftproof.report.detection.pictures import MOST_DRAWN
from shiftproof.report.parts import plan_parts
from shiftproof.report.sections import Document
from shiftproof.report.svg import colors
from shiftproof.report.svg.markup import Html
from shiftproof.runs.run import load_run

if TYPE_CHECKING:
    import jinja2

LIMIT = 10_000_000
"""Bytes of a page. Mail servers and browsers on phones take that much."""


def write_report(
    run: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    images: Sequence[str | Path] = (),
) -> Path:
    """Write the page of a run, or of several runs of any kinds, and return its path.

    The page is a function of the runs alone: the same runs give the same bytes.

    Runs of one kind and measure are shown with their models side by side. Where they differ in
    what makes a comparison fair (data, images used, corruptions, severities, protocol, encoding,
    seed, classes), the page says so in a banner. Where they are like for like their models are ranked
    together, paired by image from the records. Runs of different kinds, or errors beside
    disagreements, or AP beside AP50, have a part of the page each: one axis cannot show both. Each
    audit and each evaluation is a part of its own; an evaluation without an audit takes the first
    of the audits given that has its test sets.

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
        RunMismatchError: ``calibration`` is a run of another model.
        MissingExtraError: jinja2 is not installed.
    """
    environment = _environment()
    paths = [Path(run)] if isinstance(run, str | Path) else [Path(path) for path in run]
    if not paths:
        raise InputError("Expected the folder of a run, got an empty list.")
    runs = [load_run(path) for path in paths]
    folders = [Path(folder) for folder in images]
    parts = plan_parts(runs, None if calibration is None else Path(calibration), folders)
    page = b""
    # Nearly always the first budget holds; a page with very much text gets fewer pictures.
    for budget in (gallery.BUDGET, gallery.BUDGET // 3, 0):
        share = budget // len(parts)
        page = _render(environment, [part.build(share, folders) for part in parts])
        if len(page) <= LIMIT:
            break
    target = paths[0] / "report.html" if out is None else Path(out)
    files.write_bytes(target, page)
    return target


def _render(environment: jinja2.Environment, parts: Sequence[Document]) -> bytes:
    style = (
        environment.get_template("style.css.j2")
        .render({**_palettes(), "most_drawn": MOST_DRAWN})
        .strip()
    )
    script = environment.get_template("script.js.j2").render().strip()
    text = environment.get_template("page.html.j2").render(
        parts=parts,
        title=parts[0].title if len(parts) == 1 else _title(parts),
        policy=_policy(style, script),
        style=Html(style),
        script=Html(script),
        version=__version__,
    )
    return text.encode("utf-8")


def _title(parts: Sequence[Document]) -> str:
    kinds = list(dict.fromkeys(part.short.lower() for part in parts))
    return f"One page on {wording.listing(kinds)}"


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
