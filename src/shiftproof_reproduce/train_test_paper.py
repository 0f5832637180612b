"""Train-test similarity at the paper's scale: embeddings from disk, compared with published
results.
"""

from __future__ import annotations

import time
from pathlib import Path

from shiftproof.errors import InputError
from shiftproof.io import make_folder, read_json
from shiftproof.runs import AuditScores, provenance
from shiftproof.shards import Local
from shiftproof.similarity import Sharding, audit
from shiftproof_reproduce.published import ROWS, PublishedSet, read_test_sets
from shiftproof_reproduce.result import Finding, Result, Table, Value, point
from shiftproof_reproduce.train_test_plan import PAPER
from shiftproof_reproduce.verdicts import above, below, judge

MAX_REMOVED_SHARE = 0.1
"""Upper limit of the share of the training set that pruning for all six test sets removes.
"""


def reproduce(
    out: Path,
    *,
    data: str | Path | None,
    model: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Measure gaps and gap-matched pruning on embeddings from disk, and compare with the paper.

    No network is trained: train your own on the rows that ``shiftproof prune`` keeps.

    Args:
        out: the folder of the audit; an interrupted one resumes.
        data: a folder with ``train`` (such as LAION), ``reference`` (ImageNet's training images)
            and ``tests`` with ``sketch``, ``r`` and so on: each a source for ``open_embeddings``.
        model: must be None: no model is needed.
        device: ignored; everything runs on the CPU.
        workers: worker processes of the search.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: embeddings are missing, or ``model`` is given.
        RunMismatchError: ``out`` belongs to other embeddings.
    """
    if model is not None:
        raise InputError("train-test-similarity takes embeddings as they are; leave out --model.")
    train, reference, tests = _find_sources(data)
    begun = time.monotonic()
    folder = make_folder(out) / "runs" / "audit"
    sharding = Sharding(folder, backend=Local(workers))
    scores = audit(train, tests, folder, reference=reference, sharding=sharding).scores
    assert scores.reference is not None
    return Result(
        recipe="train-test-similarity",
        scale="paper",
        title="Is it only train-test similarity? On embeddings from disk",
        about=(
            f"{scores.train.rows:,} training rows beside {scores.reference.rows:,} of the "
            f"reference, against {len(tests)} test sets. Gap-matched pruning leaves out every training "
            "row that is closer to some test row than the reference is."
        ),
        settings={"audit": read_json(folder / "run.json")["settings"]},
        provenance=provenance(device, workers or 0),
        tables=[count_removed(scores), compare_gaps(scores)],
        findings=make_findings(scores),
        seconds={"audit": round(time.monotonic() - begun, 1)},
        intervals="Intervals are over test rows.",
    )


def _find_sources(data: str | Path | None) -> tuple[Path, Path, dict[str, Path]]:
    """Return the embeddings of the training set, of the reference, and of each test set.

    Raises:
        InputError: some are missing.
    """
    wanted = (
        "The scale paper needs embeddings on disk: give a folder (--data) with train, reference and "
        "tests, which holds a folder or .npy file per test set (shiftproof embed writes them)."
    )
    if data is None:
        raise InputError(f"{wanted} The scale small needs none.")
    root = Path(data)
    found = {name: _find_source(root / name) for name in ("train", "reference")}
    folder = root / "tests"
    tests = {
        path.name.removesuffix(".npy"): path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_dir() or path.suffix == ".npy"
    }
    train, reference = found["train"], found["reference"]
    if train is None or reference is None or not tests:
        raise InputError(f"{root} lacks some of them. {wanted}")
    return train, reference, tests


def _find_source(path: Path) -> Path | None:
    """Return a folder, or the ``.npy`` file of that name, if either exists."""
    return next(
        (each for each in (path, path.with_name(path.name + ".npy")) if each.exists()), None
    )


def find_published(name: str) -> PublishedSet | None:
    """Return the published results of a test set, by its name in any usual spelling.

    >>> find_published("ImageNet_Sketch").title
    'ImageNet-Sketch'
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return read_test_sets().get(plain.removeprefix("imagenet"))


def count_removed(scores: AuditScores) -> Table:
    """Return the share of training rows that pruning removes, measured and published."""
    ours = [(each.name, each.pruned.share) for each in scores.sets if each.pruned is not None]
    ours += [] if scores.pruning is None else [("combined", scores.pruning.share)]
    values: list[list[Value]] = []
    for name, share in ours:
        paper = find_published(name)
        values.append([point(share), None if paper is None else point(paper.removed / ROWS)])
    return Table(
        "removed",
        "What gap-matched pruning leaves out",
        "test set",
        ["of these training rows, in %", "published"],
        [name for name, _ in ours],
        values,
        note=f"Published: of {ROWS // 1_000_000} million images of LAION, embedded by CLIP ViT-B/16+.",
    )


def compare_gaps(scores: AuditScores) -> Table:
    """Return the similarity of each test set to the training set and the reference."""
    columns = {
        "similarity": "similarity",
        "reference": "reference_similarity",
        "gap": "gap",
        "share closer": "share_closer",
        "near-duplicates": "near_duplicates",
    }
    return Table(
        "similarity",
        "Similarity",
        "test set",
        list(columns),
        [each.name for each in scores.sets],
        [[getattr(each, name) for name in columns.values()] for each in scores.sets],
        unit="score",
        note="Of each test row to its nearest training row and its nearest row of the reference; the "
        "share of test rows that the training set comes closer to, and of those with a training row "
        f"at a similarity of {scores.duplicates:g} or more.",
    )


def make_findings(scores: AuditScores) -> list[Finding]:
    """Judge the paper's observations by the scores."""
    found = [
        judge(
            f"gap-{each.name}",
            f"The training set comes closer than the reference: {each.name}",
            PAPER,
            each.gap,
            "by {} on average",
            holds=above,
            unit="score",
        )
        for each in scores.sets
        if each.gap is not None
    ]
    if scores.pruning is None:
        return found
    published = 100 * read_test_sets()["combined"].removed / ROWS
    few = judge(
        "few",
        f"Pruning for all test sets leaves out less than a {round(1 / MAX_REMOVED_SHARE)}th of "
        "the training set",
        f"{PAPER}: {published:.1f} %",
        point(scores.pruning.share),
        "{} %",
        holds=below,
        limit=MAX_REMOVED_SHARE,
        unit="error",
    )
    return [*found, few]
