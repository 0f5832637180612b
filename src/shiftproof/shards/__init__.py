"""One job over many shards: parts written once each, here, by a batch scheduler, or on Ray."""

from __future__ import annotations

from shiftproof.shards.backends import Backend, Local, Scheduled
from shiftproof.shards.folder import Arrays, PartFolder
from shiftproof.shards.job import Job, merge_parts, run_shards
from shiftproof.shards.on_ray import Ray

__all__ = [
    "Arrays",
    "Backend",
    "Job",
    "Local",
    "PartFolder",
    "Ray",
    "Scheduled",
    "merge_parts",
    "run_shards",
]
