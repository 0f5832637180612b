"""Run a job over many shards on this machine, under a batch scheduler, or on Ray."""

from __future__ import annotations

from shiftproof.shards.backends import Backend, Local, Scheduled
from shiftproof.shards.folder import Arrays, FileParts, PartFolder, Parts, pack_files
from shiftproof.shards.job import Job, check_finished, fill_parts, merge_parts, run_shards
from shiftproof.shards.on_ray import Ray

__all__ = [
    "Arrays",
    "Backend",
    "FileParts",
    "Job",
    "Local",
    "PartFolder",
    "Parts",
    "Ray",
    "Scheduled",
    "check_finished",
    "fill_parts",
    "merge_parts",
    "pack_files",
    "run_shards",
]
