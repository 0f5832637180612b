"""A pruned training set on the disk: which rows stay, by which rule, and the proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.holding import frees_folders
from shiftproof.similarity.keeping import Say, UidList, write_keep
from shiftproof.similarity.neighbours import open_both
from shiftproof.similarity.parts import (
    Place,
    nearest_each,
    nearest_parts,
    prove_in_parts,
    prune_in_parts,
)
from shiftproof.similarity.prune import PruningRule, closest, keep_by_similarity
from shiftproof.similarity.run import begin, described
from shiftproof.similarity.sources import Source, open_embeddings
from shiftproof.types import Settings

F64 = NDArray[np.float64]

Rule: TypeAlias = Literal["gap-matched", "near", "far", "random"]

_BY_SIZE: dict[str, PruningRule] = {"near": "near", "far": "far", "random": "random"}


@frees_folders
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
    place: Place | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    """Prune a training set and write which rows stay.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name; all of them are pruned for.
        out: a new or empty folder, or that of the pruning to go on with.
        rule: "gap-matched" takes a reference or a threshold, the others a size.
        reference: embeddings of the training set to compare with.
        threshold: in its place, how close training rows may come to any test row.
        size: how many rows stay.
        seed: of "random".
        place: how and where it is searched; its ``folder`` is of no account.
        say: shown what is to be known before the search, such as that no uids will be listed.

    Returns:
        The content of ``keep.json``: for "gap-matched" with what each test set costs, the matrix of
        what each removes of the others', and the proof, a search in float32 of what stays.

    Raises:
        InputError: what the rule needs is missing, what it does not is there, or nothing would stay.
        UnfinishedError: this worker's share is done, others' are not.
    """
    _check(rule, reference, threshold, size)
    rows, sets = open_both(train, tests)
    of_comparison = None if reference is None else open_embeddings(reference)
    folder = Path(out)
    how = dataclasses.replace(place or Place(folder), folder=folder / "parts")
    settings: Settings = {
        "rule": rule,
        "train": described(rows),
        "tests": {name: described(of_set) for name, of_set in sets.items()},
        "reference": None if of_comparison is None else described(of_comparison),
        "threshold": threshold,
        "size": size,
        "seed": seed,
    }
    begin(folder, "pruning", settings, how)
    uids = UidList.of(rows, say)
    if rule in _BY_SIZE:
        assert size is not None
        parts = nearest_parts(rows, sets, how)
        # One part is held at a time, however many test sets there are.
        similarity = np.concatenate([closest(found) for found in nearest_each(parts, sets)])
        keep = keep_by_similarity(similarity, size, _BY_SIZE[rule], seed=seed)
        return write_keep(folder, rows, keep, {"rule": rule}, uids)
    limits = None if threshold is None else dict.fromkeys(sets, threshold)
    pruning = prune_in_parts(rows, sets, how, reference=of_comparison, thresholds=limits)
    keep = pruning.keep()
    if not keep.any():
        raise InputError("Nothing would stay. Use a higher threshold or a closer reference.")
    proofs = prove_in_parts(rows, sets, how, pruning.thresholds)
    shared = [
        [None if np.isnan(share) else share for share in row] for row in pruning.shared.tolist()
    ]
    about = {
        "rule": rule,
        "removed": pruning.counts,
        "skipped": int(pruning.skipped.sum()),
        "shared": {"names": list(sets), "matrix": shared},
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
    return write_keep(folder, rows, keep, about, uids)


def _check(rule: str, reference: Source | None, threshold: float | None, size: int | None) -> None:
    if rule not in ("gap-matched", *_BY_SIZE):
        raise UnknownNameError.of("pruning rule", rule, ["gap-matched", *_BY_SIZE])
    if rule in _BY_SIZE:
        if size is None or reference is not None or threshold is not None:
            raise InputError(
                f"The rule {rule} takes a size, and no reference or threshold: it keeps so many rows."
            )
    elif size is not None or (reference is None) == (threshold is None):
        raise InputError(
            "The rule gap-matched takes either a reference or a threshold, and no size: what stays "
            "is what is no closer."
        )
