"""Writing the page: one self-contained HTML file below 10 MB."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftproof._version import __version__
from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.lazy import import_extra
from shiftproof.report import gallery, wording
from shiftproof.report.detection.pictures import MAX_DRAWN
from shiftproof.report.parts import plan_parts
from shiftproof.report.sections import Document
from shiftproof.report.svg import colors
from shiftproof.report.svg.markup import Html
from shiftproof.runs.run import AnyRun, load_run

if TYPE_CHECKING:
    import jinja2

LIMIT = 10_000_000
"""Maximum size of a page in bytes, which mail servers and phone browsers accept."""


def write_report(
    run: str | Path | AnyRun[Any] | Sequence[str | Path | AnyRun[Any]],
    out: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    images: Sequence[str | Path] = (),
) -> Path:
    """Write the page of a run, or of several runs of any kinds, and return its path.

    The page is deterministic: the same runs give the same bytes.

    Runs of one kind and measure are shown with their models side by side. Where they differ in what
    makes a comparison fair (data, images used, corruptions, severities, protocol, encoding, seed,
    classes), the page says so in a banner. Comparable runs have their models ranked together,
    paired by image from the records. Runs of different kinds or measures (errors and disagreements,
    AP and AP50) get separate parts of the page. Each audit and each evaluation is a separate part;
    an evaluation without an audit uses the first given audit that has its test sets.

    Args:
        run: a run or its folder, or a list of such.
        out: the file to write; the default is ``report.html`` in the (first) run's folder.
        calibration: for one run without labels, the folder of a labeled run of the same model and
            adapters: the page then shows the estimated accuracy, and the error of such estimates
            where labels are known (:func:`~shiftproof.bench.estimate_stream`).
        images: for an audit, folders of its pictures; ``NAME=FOLDER`` for one test set, or for
            ``train``. Pictures elsewhere are never opened, except those in the run's own folder.

    Raises:
        InputError: a folder is not a finished run, ``out`` cannot be written to, or ``calibration``
            cannot calibrate this, or ``images`` are given without an audit.
        BrokenFileError: a file of the run is damaged; the message names the place.
        RunMismatchError: ``calibration`` is a run of another model.
        MissingExtraError: jinja2 is not installed.
    """
    environment = _make_environment()
    given = [run] if isinstance(run, str | Path | AnyRun) else run
    paths = [one.path if isinstance(one, AnyRun) else Path(one) for one in given]
    if not paths:
        raise InputError("Expected the folder of a run, got an empty list.")
    runs = [load_run(path) for path in paths]
    folders = [Path(folder) for folder in images]
    parts = plan_parts(runs, None if calibration is None else Path(calibration), folders)
    page = b""
    # The first budget nearly always fits; pages with very much text get fewer pictures.
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
        .render({**_make_palettes(), "most_drawn": MAX_DRAWN})
        .strip()
    )
    script = environment.get_template("script.js.j2").render().strip()
    text = environment.get_template("page.html.j2").render(
        parts=parts,
        title=parts[0].title if len(parts) == 1 else _make_title(parts),
        policy=_make_policy(style, script),
        style=Html(style),
        script=Html(script),
        version=__version__,
    )
    return text.encode("utf-8")


def _make_title(parts: Sequence[Document]) -> str:
    kinds = list(dict.fromkeys(part.short.lower() for part in parts))
    return f"One page on {wording.join_list(kinds)}"


def _make_policy(style: str, script: str) -> str:
    """Return the content security policy: this style and this script by their hash, data images.

    Nothing else is allowed: no network, inline handlers, style attributes, frames or forms. Even
    markup that bypassed the escaping could not run or connect.
    """
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _make_palettes() -> Mapping[str, object]:
    return {
        "light": {
            "sequential": colors.make_sequential(dark=False),
            "diverging": colors.make_diverging(dark=False),
            "models": colors.MODEL_LIGHT,
        },
        "dark": {
            "sequential": colors.make_sequential(dark=True),
            "diverging": colors.make_diverging(dark=True),
            "models": colors.MODEL_DARK,
        },
    }


def _make_environment() -> jinja2.Environment:
    import_extra("jinja2", "report")
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
