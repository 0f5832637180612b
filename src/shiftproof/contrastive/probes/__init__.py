"""Which factors of the world an encoder keeps, and which it has collapsed."""

from shiftproof.contrastive.probes.run import probe

__all__ = ["probe"]
