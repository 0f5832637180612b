"""Published figures of the benchmark, and whether a run's corruptions are those of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftproof.bench.tasks.interface import Grid
from shiftproof.corruptions.table import COMMON, find_function
from shiftproof.counts import pluralize
from shiftproof.runs.folder import RunFolder
from shiftproof.types import Cell


@dataclass(frozen=True)
class Reference:
    """A published figure, a fraction, and where it was printed."""

    title: str
    value: float
    source: str


_BN = "Schneider et al. 2020"
_SELF = "Rusak et al. 2022"

PUBLISHED_MCE = (
    Reference("AlexNet", 1.0, "by definition (Hendrycks & Dietterich 2019)"),
    Reference("ResNet-50", 0.767, _BN),
    Reference("ResNeXt-101", 0.666, _SELF),
    Reference("ResNet-50, AugMix", 0.653, _BN),
    Reference("ResNet-50, adapted by batch norm", 0.622, _BN),
    Reference("ResNet-50, DeepAugment", 0.604, _BN),
    Reference("ResNet-50, DeepAugment and AugMix", 0.536, _BN),
    Reference("ResNeXt-101, IG-3.5B", 0.517, _BN),
    Reference("ResNet-50, self-learning by RPL", 0.505, _SELF),
    Reference("ResNeXt-101, DeepAugment and AugMix", 0.445, _BN),
    Reference("EfficientNet-L2", 0.283, _SELF),
)
"""mCE over ImageNet-C, all 50,000 validation images."""

_COCO = "Michaelis et al. 2019"

PUBLISHED_MPC = (
    Reference("RetinaNet R-50", 0.178, _COCO),
    Reference("Faster R-CNN R-50", 0.182, _COCO),
    Reference("Mask R-CNN R-50", 0.187, _COCO),
    Reference("Cascade R-CNN R-50", 0.201, _COCO),
    Reference("Faster R-CNN R-50, also trained on stylized images", 0.204, _COCO),
    Reference("HTC", 0.327, _COCO),
)
"""mPC over COCO-C, AP over all 5,000 validation images."""


def why_other_corruptions(folder: RunFolder) -> str | None:
    """Return why figures over the 15 corruptions are not the benchmark's, or None.

    A run records of each corruption what it was: other constants (those of CIFAR-10-C, for images of
    32 x 32 pixels), or a function of one's own under a name of the table, make another number. What
    was read from disk or answered elsewhere is known by its name alone. Frost with other textures
    passes: where it was drawn, the page says so in its place.
    """
    settings = folder.info().get("settings")
    told = settings.get("corruptions") if isinstance(settings, Mapping) else None
    if not isinstance(told, Mapping):
        return None
    others = {name: told[name] for name in COMMON if not _is_published(name, told.get(name))}
    if not others:
        return None
    listed = ", ".join(str(identity)[:60] for identity in list(others.values())[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    is_one = len(others) == 1
    return (
        f"{len(others)} of the 15 corruptions {'is' if is_one else 'are'} not the benchmark's own "
        f"({listed}{more})"
    )


def why_cells_lack(grid: Grid) -> str | None:
    """Return which cells of the 15 corruptions a grid lacks at its severities, or None."""
    there = set(grid.cells)
    gone = [
        str(cell)
        for name in COMMON
        for severity in grid.severities
        if (cell := Cell(name, severity)) not in there
    ]
    if not gone:
        return None
    more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
    return f"{pluralize(len(gone), 'cell is', 'cells are')} missing ({', '.join(gone[:5])}{more})"


def _is_published(name: str, identity: Any) -> bool:
    if identity is None:
        return True
    function = find_function(name)
    own = f"{function.__module__}.{function.__qualname__}"
    words = str(identity)
    return words == name or words.startswith((f"{name} with ", f"{own} ", f"{own}_imagenet_c "))
