"""Train-test similarity at the paper's own scale: embeddings from disk, beside what was published."""

from __future__ import annotations

import time
from pathlib import Path

from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.metrics.intervals import Interval
from shiftproof.provenance import provenance
from shiftproof.runs.scores.audit import AuditScores
from shiftproof.shards import Local
from shiftproof.similarity.audit import audit
from shiftproof.similarity.sharded import Place
from shiftproof_reproduce.claims import above
from shiftproof_reproduce.published_similarity import PAPER, ROWS, Published, published
from shiftproof_reproduce.rendering import spelt
from shiftproof_reproduce.result import Finding, Result, Table, Value, point, rounded

FEW = 0.1
"""The share of the training set that pruning for all six test sets left out in the paper was below it."""


def reproduce(
    out: Path,
    *,
    data: str | Path | None,
    model: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Measure gaps and gap-matched pruning on embeddings from disk, and return them beside the paper's.

    No network is trained: train yours on the rows that ``shiftproof prune`` keeps.

    Args:
        out: the folder of the audit, which is gone on with.
        data: a folder with ``train`` (such as LAION), ``reference`` (ImageNet's training images) and
            ``tests``, which holds ``sketch``, ``r``, ...: each what ``open_embeddings`` takes.
        model: not taken: the embeddings are there.
        device: not taken, likewise; all is on the CPU.
        workers: processes that compare.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: there are no such embeddings, or ``model`` is given.
        RunMismatchError: ``out`` is of other embeddings.
    """
    if model is not None:
        raise InputError("train-test-similarity takes embeddings as they are; leave out --model.")
    train, reference, tests = _sources(data)
    begun = time.monotonic()
    folder = files.make_folder(out) / "runs" / "audit"
    place = Place(folder, backend=Local(workers))
    scores = audit(train, tests, folder, reference=reference, place=place).scores
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
        tables=[removed(scores), gaps(scores)],
        findings=findings(scores),
        seconds={"audit": round(time.monotonic() - begun, 1)},
        intervals="Intervals are over test rows.",
    )


def _sources(data: str | Path | None) -> tuple[Path, Path, dict[str, Path]]:
    """Return the embeddings of the training set, of the reference, and of each test set.

    Raises:
        InputError: some are not there.
    """
    wanted = (
        "The scale paper needs embeddings on disk: give a folder (--data) with train, reference and "
        "tests, which holds a folder or .npy file per test set (shiftproof embed writes them)."
    )
    if data is None:
        raise InputError(f"{wanted} The scale small needs none.")
    root = Path(data)
    found = {name: _either(root / name) for name in ("train", "reference")}
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


def _either(path: Path) -> Path | None:
    """Return a folder, or the .npy file in its place."""
    return next(
        (each for each in (path, path.with_name(path.name + ".npy")) if each.exists()), None
    )


def published_of(name: str) -> Published | None:
    """Return what was published of a test set, by its name in any usual spelling.

    >>> published_of("ImageNet_Sketch").title
    'ImageNet-Sketch'
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return published().get(plain.removeprefix("imagenet"))


def removed(scores: AuditScores) -> Table:
    """Return the share of the training rows that pruning leaves out, beside the published one."""
    rows: list[str] = []
    values: list[list[Value]] = []
    known = [(each.name, each.pruned.share) for each in scores.sets if each.pruned is not None]
    together = [] if scores.pruning is None else [("combined", scores.pruning.share)]
    for name, share in [*known, *together]:
        paper = published_of(name)
        rows.append(name)
        values.append([point(share), None if paper is None else point(paper.removed / ROWS)])
    return Table(
        "removed",
        "What gap-matched pruning leaves out",
        "test set",
        ["of these training rows, in %", "published"],
        rows,
        values,
        note=f"Published: of {ROWS // 1_000_000} million images of LAION, embedded by CLIP ViT-B/16+.",
    )


def gaps(scores: AuditScores) -> Table:
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
        [[_round(getattr(each, name)) for name in columns.values()] for each in scores.sets],
        unit="score",
        note="Of each test row to its nearest training row and its nearest row of the reference; the "
        "share of test rows that the training set comes closer to, and of those with a training row "
        f"at a similarity of {scores.duplicates:g} or more.",
    )


def findings(scores: AuditScores) -> list[Finding]:
    """Hold the paper's observations against the scores."""
    found = []
    for each in scores.sets:
        gap = _round(each.gap)
        if gap is not None:
            found.append(
                Finding(
                    f"gap-{each.name}",
                    f"The training set comes closer than the reference: {each.name}",
                    PAPER,
                    f"by {spelt(gap, 'score')} on average",
                    above(gap),
                    gap,
                    "score",
                )
            )
    if scores.pruning is None:
        return found
    share = point(scores.pruning.share)
    found.append(
        Finding(
            "few",
            f"Pruning for all test sets leaves out less than a {round(1 / FEW)}th of the training set",
            f"{PAPER}: {100 * published()['combined'].removed / ROWS:.1f} %",
            f"{spelt(share, 'error')} %",
            "yes" if share.value < FEW else "no",
            share,
            "error",
        )
    )
    return found


def _round(figure: Interval | None) -> Value:
    return None if figure is None else rounded(figure)
