"""Which factors of the world an encoder keeps, and which it has collapsed."""

from shiftproof.probe.run import probe

__all__ = ["probe"]
