"""The results of an audit of embeddings for the test sets of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.evaluate.sets import shorten_name
from shiftproof.io import files
from shiftproof.io.parquet import read_parquet
from shiftproof.runs import AuditRun, load_run
from shiftproof.runs.scores.audit import AuditScores, TestSet
from shiftproof.types import F64


@dataclass(frozen=True, eq=False)
class MatchedAudit:
    """An audit, matched with the test sets of an evaluation.

    Attributes:
        path: folder of the audit.
        content: its scores.
        names: from a test set's name in the evaluation to that in the audit.
        missing: test sets of the evaluation that the audit lacks.
        fingerprint: fingerprint of its ``scores.json``.
    """

    path: Path
    content: AuditScores
    names: Mapping[str, str]
    missing: tuple[str, ...]
    fingerprint: str

    def figures(self, name: str) -> TestSet:
        """Return the audit's scores of a test set of the evaluation."""
        return next(one for one in self.content.sets if one.name == self.names[name])

    def read_similarities(self, name: str, ids: Sequence[str]) -> F64:
        """Return each image's similarity to its nearest training row, NaN if it has no row.

        Rows are matched by key, or if no key equals an image's full name, by file name, provided
        that it is unique on both sides.
        """
        found = self._read_similarities_by_key(name)
        if not found.keys() & set(ids):
            found, ids = _index_by_file_name(found), [_get_file_name(name) for name in ids]
            duplicated = {name for name, count in Counter(ids).items() if count > 1}
            found = {name: value for name, value in found.items() if name not in duplicated}
        return np.array([found.get(name, np.nan) for name in ids], dtype=np.float64)

    def _read_similarities_by_key(self, name: str) -> dict[str, float]:
        """Return the similarities of rows by key; empty if keys are not unique."""
        path = self.path / "records" / "tests" / f"{self.names[name]}.parquet"
        try:
            table = read_parquet(path, unique="key")
            values = np.asarray(table["similarity"].to_numpy(), dtype=np.float64)
        except (BrokenFileError, KeyError, TypeError, ValueError):
            # Without rows the audit's scores are still shown; the report states that no rows
            # matched.
            return {}
        return dict(zip(table["key"].to_pylist(), values.tolist(), strict=True))


def _index_by_file_name(found: Mapping[str, float]) -> dict[str, float]:
    counts = Counter(_get_file_name(key) for key in found)
    return {
        _get_file_name(key): value
        for key, value in found.items()
        if counts[_get_file_name(key)] == 1
    }


def _get_file_name(name: str) -> str:
    return name.rpartition("/")[2]


def read_audit(path: Path, sets: Sequence[str]) -> MatchedAudit:
    """Read the folder of an audit, and find its test sets by name.

    Names are matched exactly, else by their short form: "sketch" is "imagenet-sketch".

    Raises:
        InputError: the folder holds no finished audit, or one without these test sets.
        BrokenFileError: a file of it cannot be read.
    """
    run = load_run(path)
    if not isinstance(run, AuditRun):
        raise InputError(
            f"{path} is a run of the kind {run.kind!r}; expected an audit of embeddings, as "
            "`shiftproof audit` writes it."
        )
    content = run.scores
    known = {one.name: one.name for one in content.sets}
    short = {shorten_name(one.name): one.name for one in content.sets}
    names = {
        name: found for name in sets if (found := known.get(name) or short.get(shorten_name(name)))
    }
    if not names:
        raise InputError(
            f"{path} has none of the test sets {', '.join(sets)}; it has {', '.join(known)}. Use "
            "the same names: --data NAME=PATH."
        )
    missing = tuple(name for name in sets if name not in names)
    return MatchedAudit(
        path, content, names, missing, files.file_fingerprint(run.folder.scores_file)
    )
