"""Probing which factors of variation an encoder encodes, and which it has collapsed."""

from shiftproof.probe.run import probe

__all__ = ["probe"]
