"""Warnings of settings of adapters that are known to do harm, before a run is filled."""

from __future__ import annotations

from collections.abc import Mapping

from shiftproof.adapt.cautions import list_cautions
from shiftproof.bench.protocol import Protocol
from shiftproof.compute.progress import console
from shiftproof.io.border import show_text
from shiftproof.types import Settings


def warn_of_settings(adapters: Mapping[str, Settings], batch_size: int, protocol: Protocol) -> None:
    """Print a line to standard error for each thing that is known to go wrong.

    Args:
        adapters: name in the run to settings.
        batch_size: images in a batch.
        protocol: how they are shown.
    """
    for name, settings in adapters.items():
        for caution in list_cautions(settings, batch_size=batch_size, order=protocol.order):
            line = show_text(f"{name}: {caution}")
            console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
