"""Writing keep-lists for other tools."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.folder_locks import releases_locks
from shiftproof.similarity.coreset import combine_nearest, keep_among
from shiftproof.similarity.dedup import (
    PAPER_THRESHOLD,
    KeepingRule,
    check_clusters,
    check_rule,
    deduplicate_in_parts,
)
from shiftproof.similarity.keeplists import (
    explain_missing_uids,
    has_uids,
    write_datacomp,
    write_keys,
)
from shiftproof.similarity.prune import (
    Proof,
    Pruning,
    PruningRule,
    check_limits,
    check_size,
    find_highest,
    keep_by_similarity,
)
from shiftproof.similarity.questions.nearest import NearestQuestion
from shiftproof.similarity.run import begin_run, describe_source
from shiftproof.similarity.sharded import Sharding, prove_in_parts, prune_in_parts, search_in_parts
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings, open_sources
from shiftproof.similarity.subset import read_keep
from shiftproof.types import Flags, Settings

KEEP_FILE = "keep.npy"


Rule: TypeAlias = Literal["gap-matched", "near", "far", "random"]

_SIZE_RULES: dict[str, PruningRule] = {"near": "near", "far": "far", "random": "random"}

Say: TypeAlias = Callable[[str], None]
"""Function that shows a message to the user."""


@dataclasses.dataclass(frozen=True)
class UidList:
    """Whether a list of uids in DataComp's format will be written; decided before the search.

    Attributes:
        wanted: whether there are uids, all in DataComp's format.
        reason: why no list is written; None if there are no uids or the list is written.
    """

    wanted: bool
    reason: str | None = None

    @classmethod
    def of(cls, train: Embeddings, say: Say | None) -> UidList:
        """Decide, and warn if there are uids that do not fit such a list."""
        if not has_uids(train):
            return cls(wanted=False)
        reason = explain_missing_uids(train)
        if reason is None:
            return cls(wanted=True)
        if say is not None:
            say(f"No uids.npy will be written, DataComp's list. {reason}")
        return cls(wanted=False, reason=reason)


def write_keep(
    folder: Path,
    train: Embeddings,
    keep: Flags,
    about: dict[str, Any],
    uids: UidList,
) -> dict[str, Any]:
    """Write ``keep.npy`` (bool, one value a row), ``keys.parquet``, and ``uids.npy`` if uids fit.

    ``keep.json`` is written last: counts, settings, files, and under ``no_uids`` the reason if uids
    could not be listed.

    ``about`` is further content of ``keep.json``, which is returned.

    Raises:
        InputError: no row is kept.
    """
    if not keep.any():
        raise InputError(
            "No row would be kept: none is usable, or none is far enough from the others."
        )
    with files.atomic(folder / KEEP_FILE) as file:
        np.save(file, keep)
    named, reason = ["keys.parquet"], uids.reason
    write_keys(folder / named[0], train, keep)
    listed = folder / "uids.npy"
    if uids.wanted:
        try:
            write_datacomp(listed, train, keep)
            named.append(listed.name)
        except BrokenFileError:
            raise
        except InputError as error:
            # Uids shared by kept and dropped rows are detected only now.
            reason = str(error)
    if listed.name not in named:
        listed.unlink(missing_ok=True)
    kept = int(keep.sum())
    content = {
        "format": 1,
        "rows": len(keep),
        "kept": kept,
        "share": kept / len(keep),
        **about,
        "files": [KEEP_FILE, *named],
        "no_uids": reason,
    }
    files.write_json(folder / "keep.json", content)
    return content


@releases_locks
def write_pruned(
    train: Source,
    tests: Mapping[str, Source],
    out: str | Path,
    *,
    rule: Rule = "gap-matched",
    reference: Source | None = None,
    threshold: float | None = None,
    size: int | None = None,
    seed: int = 0,
    sharding: Sharding | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Prune a training set and write its keep-list.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name; pruning is for all of them.
        out: a new or empty folder, or that of the pruning to resume.
        rule: "gap-matched" needs a reference or a threshold, the others a size.
        reference: embeddings of the training set to compare with.
        threshold: instead of a reference, the largest allowed similarity to any test row.
        size: number of rows to keep.
        seed: random seed of "random".
        sharding: how and where the search runs; its ``folder`` is ignored.
        say: called with warnings before the search, such as that no uids will be listed.

    Returns:
        The content of ``keep.json``: for "gap-matched" with the rows removed for each test set, the
        matrix of their overlaps, and a verification of the kept rows by a search in float32.

    Raises:
        InputError: missing or superfluous arguments for the rule, or no row would be kept.
        UnfinishedError: this worker's share is done, but not all the others'.
    """
    _check_pruning(rule, reference, threshold, size)
    rows, sets = open_sources(train, tests)
    of_comparison = None if reference is None else open_embeddings(reference)
    if size is not None:
        check_size(size, len(rows))
    limits = None if threshold is None else check_limits(sets, dict.fromkeys(sets, threshold))
    folder = Path(out)
    parts_sharding = dataclasses.replace(sharding or Sharding(folder), folder=folder / "parts")
    settings: Settings = {
        "rule": rule,
        "train": describe_source(rows),
        "tests": {name: describe_source(of_set) for name, of_set in sets.items()},
        "reference": None if of_comparison is None else describe_source(of_comparison),
        "threshold": threshold,
        "size": size,
        "seed": seed,
    }
    begin_run(folder, "pruning", settings, parts_sharding)
    uids = UidList.of(rows, say)
    if rule in _SIZE_RULES:
        assert size is not None
        parts = search_in_parts(NearestQuestion(), rows, sets, parts_sharding)
        # Only one part is in memory at a time, for any number of test sets.
        similarity = np.concatenate([find_highest(found) for found in parts])
        keep = keep_by_similarity(similarity, size, _SIZE_RULES[rule], seed=seed)
        return write_keep(folder, rows, keep, {"rule": rule}, uids)
    pruning = prune_in_parts(rows, sets, parts_sharding, reference=of_comparison, thresholds=limits)
    keep = pruning.keep()
    if not keep.any():
        raise InputError("No row would be kept. Use a higher threshold or a closer reference.")
    proofs = prove_in_parts(rows, sets, parts_sharding, pruning.thresholds)
    return write_keep(
        folder, rows, keep, _describe_pruning(rule, list(sets), pruning, proofs), uids
    )


def _describe_pruning(
    rule: Rule, names: list[str], pruning: Pruning, proofs: Mapping[str, Proof]
) -> dict[str, Any]:
    """Return the content of ``keep.json``: counts of removed rows, their overlaps, the
    verification.
    """
    shared = [
        [None if np.isnan(share) else share for share in row] for row in pruning.shared.tolist()
    ]
    return {
        "rule": rule,
        "removed": pruning.counts,
        "skipped": int(pruning.skipped.sum()),
        "shared": {"names": names, "matrix": shared},
        "proof": {
            name: {
                "holds": proof.holds,
                "violations": proof.violations,
                "rows": len(proof.similarity),
            }
            for name, proof in proofs.items()
        },
        "certificates": {
            name: dataclasses.asdict(one) for name, one in pruning.certificates.items()
        },
    }


def _check_pruning(
    rule: str, reference: Source | None, threshold: float | None, size: int | None
) -> None:
    if rule not in ("gap-matched", *_SIZE_RULES):
        raise UnknownNameError.of("pruning rule", rule, ["gap-matched", *_SIZE_RULES])
    if rule in _SIZE_RULES:
        if size is None or reference is not None or threshold is not None:
            raise InputError(f"The rule {rule} takes a size, and no reference or threshold.")
    elif size is not None or (reference is None) == (threshold is None):
        raise InputError(
            "The rule gap-matched takes either a reference or a threshold, and no size."
        )


@releases_locks
def write_deduplicated(
    train: Source,
    out: str | Path,
    threshold: float = PAPER_THRESHOLD,
    *,
    rule: KeepingRule = "earlier",
    clusters: int | None = None,
    seed: int = 0,
    sharding: Sharding | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Find near-duplicates and write the keep-list; ``groups.npy`` has the groups.

    Args as for :func:`~shiftproof.similarity.deduplicate` and :func:`write_pruned`. Returns the
    content of ``keep.json``.

    Raises:
        InputError: what :func:`~shiftproof.similarity.deduplicate` refuses.
        RunMismatchError: the folder belongs to another de-duplication.
        UnfinishedError: this worker's share is done, but not all the others'.
    """
    rows = open_embeddings(train)
    check_rule(threshold, rule)
    if clusters is not None:
        check_clusters(clusters, len(rows))
    folder = Path(out)
    parts_sharding = dataclasses.replace(sharding or Sharding(folder), folder=folder / "parts")
    settings = {
        "train": describe_source(rows),
        "threshold": threshold,
        "rule": rule,
        "clusters": clusters,
        "seed": seed,
    }
    begin_run(folder, "deduplication", settings, parts_sharding)
    uids = UidList.of(rows, say)
    found = deduplicate_in_parts(
        rows, parts_sharding, threshold, rule=rule, clusters=clusters, seed=seed
    )
    with files.atomic(folder / "groups.npy") as file:
        np.save(file, found.group)
    about = {
        "rule": rule,
        "threshold": threshold,
        "pairs": found.count,
        "recall": None if math.isnan(found.recall) else found.recall,
    }
    return write_keep(folder, rows, found.keep, about, uids)


@releases_locks
def write_coreset(
    train: Source,
    tests: Mapping[str, Source],
    size: int,
    out: str | Path,
    *,
    among: str | Path | None = None,
    sharding: Sharding | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Select the rows nearest to the test sets and write the keep-list.

    Args as for :func:`~shiftproof.similarity.coreset` and :func:`write_pruned`, and ``among``:
    select only among the rows that :func:`~shiftproof.similarity.subset.read_keep` reads there.
    Returns the content of ``keep.json``.

    Raises:
        InputError: what :func:`~shiftproof.similarity.coreset` refuses.
        RunMismatchError: the folder belongs to another core set.
        UnfinishedError: this worker's share is done, but not all the others'.
    """
    rows, sets = open_sources(train, tests)
    allowed = None if among is None else read_keep(among, len(rows))
    check_size(size, len(rows) if allowed is None else int(allowed.sum()))
    folder = Path(out)
    parts_sharding = dataclasses.replace(sharding or Sharding(folder), folder=folder / "parts")
    settings = {
        "train": describe_source(rows),
        "tests": {name: describe_source(of_set) for name, of_set in sets.items()},
        "size": size,
        "among": None if allowed is None else files.fingerprint([np.packbits(allowed).tobytes()]),
    }
    begin_run(folder, "core set", settings, parts_sharding)
    uids = UidList.of(rows, say)
    parts = search_in_parts(NearestQuestion(), rows, sets, parts_sharding)
    # Only one part is in memory at a time: two numbers per row, for any number of test sets.
    found = [
        (similarity, nearest.astype(np.int32))
        for similarity, nearest in map(combine_nearest, parts)
    ]
    keep = keep_among(np.concatenate([part[0] for part in found]), size, allowed)
    nearest = np.concatenate([part[1] for part in found])[keep]
    return write_keep(
        folder,
        rows,
        keep,
        {"nearest_to": {name: int((nearest == n).sum()) for n, name in enumerate(sets)}},
        uids,
    )
