"""The gallery: every corruption at its five severities, as a page and a picture for each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from pages.tables import write_table
from PIL import Image as PillowImage

from shiftproof.corruptions import COMMON, CORRUPTIONS, EXTRA, GROUPS, HOLDOUT, corrupt
from shiftproof.corruptions.depth import FUNCTIONS as DEPTH
from shiftproof.report import corruption_title
from shiftproof.types import Image

DOCS = Path(__file__).parent.parent / "docs"
SIDE = 128
SEVERITIES = (1, 2, 3, 4, 5)
QUALITY = 72


def list_groups() -> dict[str, tuple[str, ...]]:
    """Return the corruptions by group; those by depth need depth, and stand on another page."""
    groups = {
        f"Benchmark: {name}": tuple(n for n in COMMON if n in GROUPS[name]) for name in GROUPS
    }
    shown = {name for names in groups.values() for name in names} | set(DEPTH)
    groups["Hold-out, for choosing settings"] = tuple(HOLDOUT)
    groups["Ours, in no benchmark"] = tuple(EXTRA)
    shown |= {*HOLDOUT, *EXTRA}
    groups["Of further papers"] = tuple(name for name in CORRUPTIONS if name not in shown)
    return {title: names for title, names in groups.items() if names}


def draw_scene() -> Image:
    """Return the image that is corrupted: scikit-image's photograph of an astronaut, cut to the face."""
    from skimage import data

    face = PillowImage.fromarray(data.astronaut()).crop((60, 0, 380, 320))
    return np.asarray(face.resize((SIDE, SIDE), PillowImage.Resampling.LANCZOS))


def draw_strip(image: Image, name: str) -> Image:
    """Return an image at the five severities of a corruption, side by side."""
    variant = "drawn" if name == "frost" else None  # the photographs of ice are not ours to show
    return np.hstack(
        [corrupt(image, name, severity, key="gallery", variant=variant) for severity in SEVERITIES]
    )


def write_pictures(folder: Path = DOCS / "gallery") -> list[Path]:
    """Draw the pictures anew; the same versions of the libraries give the same bytes."""
    image = draw_scene()
    folder.mkdir(exist_ok=True)
    written = []
    for name in (name for names in list_groups().values() for name in names):
        packed = io.BytesIO()
        PillowImage.fromarray(draw_strip(image, name)).save(packed, "jpeg", quality=QUALITY)
        written.append(folder / f"{name}.jpg")
        written[-1].write_bytes(packed.getvalue())
    return written


def write_gallery() -> str:
    """Return the page."""
    parts = [
        "# Gallery",
        "This page shows every corruption that needs only an image, at severities 1 to 5 from left to "
        "right. The picture has 128 x 128 pixels. On larger pictures, blur and noise look weaker. To draw "
        "the same for your own image:",
        "```bash\nshiftproof corruptions --show photo.jpg --out sheet.png\n```",
        "For corruptions that need depth, see [Further shifts](shifts.md).",
    ]
    for title, names in list_groups().items():
        rows = [(f"`{name}`", _link_picture(name)) for name in names]
        parts += [f"## {title}", write_table(("name", "severity 1 to 5"), rows).rstrip("\n")]
    return "\n\n".join(parts) + "\n"


def _link_picture(name: str) -> str:
    return f"![{corruption_title(name)} at severities 1 to 5](gallery/{name}.jpg)"
