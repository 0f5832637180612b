"""An audit: how close a training set comes to test sets, in a folder that a page is made of."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from shiftproof.errors import InputError, UnfinishedError
from shiftproof.io import files
from shiftproof.io.folder_locks import releases_locks
from shiftproof.runs.scores.audit import (
    MEASURE,
    AuditScores,
    Certificate,
    Certificates,
    Leak,
    Neighbor,
    PrunedRows,
    PruningCosts,
    RowCounts,
    TestSet,
)
from shiftproof.runs.scores.reading import FORMAT, write_form
from shiftproof.similarity import findings
from shiftproof.similarity.gap import SimilarityGap, check_threshold, gap_of, histogram
from shiftproof.similarity.questions.above import AboveQuestion
from shiftproof.similarity.questions.nearest import Nearest, NearestQuestion
from shiftproof.similarity.questions.top_k import TopK
from shiftproof.similarity.run import begin, describe
from shiftproof.similarity.sharded import Parts, Sharding, search_in_parts, top_k_in_parts
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings, open_sources
from shiftproof.types import I64, Settings

if TYPE_CHECKING:
    from shiftproof.runs.run import AuditRun

KIND: Literal["similarity"] = "similarity"

NEAR_DUPLICATE = 0.95
"""At or above it a training row is called a near-duplicate of a test row."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@releases_locks
def audit(
    train: Source,
    tests: Mapping[str, Source],
    out: str | Path,
    *,
    reference: Source | None = None,
    k: int = 10,
    duplicates: float = NEAR_DUPLICATE,
    leakage: int = 24,
    images: Mapping[str, str | Path] | None = None,
    train_images: str | Path | None = None,
    sharding: Sharding | None = None,
) -> AuditRun:
    """Measure how close a training set comes to each of several test sets, and keep all of it.

    In the folder: ``run.json`` (settings and provenance), ``scores.json`` (all figures),
    ``records/tests/NAME.parquet`` (one row per test row), ``records/train/NAME.npy`` (each training
    row's similarity to its nearest test row; beside it which one), with a reference
    ``records/removed/NAME.npy`` (what gap-matched pruning removes), and ``parts/``, from which an
    audit that was interrupted resumes.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name.
        out: a new or empty folder, or that of the audit to resume.
        reference: embeddings of the training set to compare with, such as ImageNet's.
        k: how many training rows make the density.
        duplicates: how similar a near-duplicate is at least.
        leakage: how many test rows are shown with their nearest training rows.
        images: for each test set, the folder in which its keys name images; for the page.
        train_images: the same for the training set.
        sharding: how and where it is searched; its ``folder`` is ignored. By default in one process
            per core.

    Returns:
        The finished run: ``run.scores`` are all figures, ``run.records()`` the rows' own.

    Raises:
        InputError: what the searches refuse, or a test set's name that is no file's.
        RunMismatchError: the folder belongs to another audit.
        UnfinishedError: this worker's share is done, others' are not.
    """
    rows, sets = open_sources(train, tests)
    folder = Path(out)
    of = _Audit(
        rows=rows,
        sets=sets,
        reference=None if reference is None else open_embeddings(reference),
        folder=folder,
        how=dataclasses.replace(sharding or Sharding(folder), folder=folder / "parts"),
        k=k,
        duplicates=duplicates,
        leakage=leakage,
        images=images or {},
        train_images=train_images,
    )
    from shiftproof.runs.run import AuditRun  # with the runs of all other kinds

    _check(of)
    begin(folder, KIND, _settings(of), of.how)
    run = AuditRun(folder)
    write_form(run.folder.scores_file, _score(of, _search(of)))
    return run


def _score(of: _Audit, found: _NearestRows) -> AuditScores:
    gaps = _gaps(found)
    train_side = _write_nearest(of, found.nearest)
    pruned = None if of.reference is None else _prune(of, gaps)
    in_reference = found.of_reference or {}
    skipped = max((one.certificate.skipped for one in in_reference.values()), default=0)
    return AuditScores(
        format=FORMAT,
        kind=KIND,
        measure=MEASURE,
        interval=findings.INTERVAL,
        k=of.k,
        duplicates=of.duplicates,
        train=_count_rows(of.rows, train_side.skipped),
        reference=None if of.reference is None else _count_rows(of.reference, skipped),
        edges=tuple(histogram([0.0], findings.BINS)[0].tolist()),
        sets=_score_sets(of, found, gaps, train_side, pruned),
        pruning=None if pruned is None else pruned.sum_up(),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Audit:
    """What is audited, how, and what for; see :func:`audit`."""

    rows: Embeddings
    sets: dict[str, Embeddings]
    reference: Embeddings | None
    folder: Path
    how: Sharding
    k: int
    duplicates: float
    leakage: int
    images: Mapping[str, str | Path]
    train_images: str | Path | None

    @property
    def records(self) -> Path:
        """The folder of the rows' own figures."""
        return self.folder / "records"


def _check(of: _Audit) -> None:
    for name in of.sets:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"Expected names of test sets of letters, digits, '.', '_' and '-', got {name!r}."
            )
    check_threshold(of.duplicates)
    if of.k < 1:
        raise InputError(f"Expected k of 1 or more, got {of.k}.")
    if of.leakage < 0:
        raise InputError(f"Expected 0 or more test rows to show, got {of.leakage}.")


def _settings(of: _Audit) -> Settings:
    return {
        "train": describe(of.rows),
        "tests": {name: describe(of_set) for name, of_set in of.sets.items()},
        "reference": None if of.reference is None else describe(of.reference),
        "k": of.k,
        "duplicates": of.duplicates,
        "leakage": of.leakage,
        "normalise": of.rows.normalize,
        "unusable": of.rows.unusable,
    }


def _count_rows(rows: Embeddings, skipped: int) -> RowCounts:
    return RowCounts(len(rows), skipped, rows.width, len(rows.shards))


# ---------------------------------------------------------------- what is searched


@dataclasses.dataclass(frozen=True, eq=False)
class _NearestRows:
    """The results of the searches, before anything is derived from them.

    Attributes:
        near: the nearest training rows of each test set's rows.
        of_reference: their nearest reference row, where there is a reference.
        nearest: the parts that hold each training row's nearest test rows.
    """

    near: dict[str, TopK]
    of_reference: dict[str, TopK] | None
    nearest: Parts[Nearest]


def _search(of: _Audit) -> _NearestRows:
    """Run this worker's share of the searches, then check whether the other workers have run theirs."""
    unfinished: list[UnfinishedError] = []
    near: dict[str, TopK] = {}
    of_reference_rows: dict[str, TopK] | None = None
    nearest: Parts[Nearest] | None = None
    with _noting(unfinished):
        near = top_k_in_parts(of.rows, of.sets, of.how, of.k)
    with _noting(unfinished):
        nearest = search_in_parts(NearestQuestion(), of.rows, of.sets, of.how)
    if of.reference is not None:
        with _noting(unfinished):
            of_reference_rows = top_k_in_parts(of.reference, of.sets, of.how.within("reference"), 1)
    if unfinished:
        raise unfinished[0]
    assert nearest is not None
    return _NearestRows(near, of_reference_rows, nearest)


@contextlib.contextmanager
def _noting(unfinished: list[UnfinishedError]) -> Iterator[None]:
    try:
        yield
    except UnfinishedError as error:
        unfinished.append(error)


def _gaps(found: _NearestRows) -> dict[str, SimilarityGap]:
    """Return the gap of each test set."""
    reference = found.of_reference
    return {
        name: gap_of(near, None if reference is None else reference[name])
        for name, near in found.near.items()
    }


# ---------------------------------------------------------------- what is said of test sets


def _score_sets(
    of: _Audit,
    found: _NearestRows,
    gaps: Mapping[str, SimilarityGap],
    train_side: _TrainSide,
    pruned: _Pruned | None,
) -> tuple[TestSet, ...]:
    """Return what ``scores.json`` says of each test set, and write its rows' records."""
    in_reference = found.of_reference or {}
    shown = [
        one.index[findings.find_most_similar(one, of.leakage), : findings.SHOWN]
        for one in found.near.values()
    ]
    train_names = _Names(of.rows, of.train_images)
    train_names.look_up(np.concatenate([index.ravel() for index in shown]))
    of_train = functools.partial(_describe_neighbor, train_names)
    scored = []
    for place, (name, of_set) in enumerate(of.sets.items()):
        names = _Names(of_set, of.images.get(name))
        names.look_up(np.arange(len(of_set)))
        labels = names.column("label")
        _write_tests(of.records / "tests" / f"{name}.parquet", gaps[name], names, labels)
        of_test = functools.partial(_describe, names, labels)
        near, gap = found.near[name], gaps[name]
        figures = findings.measure(gap, of.duplicates)
        scored.append(
            TestSet(
                name=name,
                rows=len(of_set),
                similarity=figures["similarity"],
                density=figures["density"],
                near_duplicates=figures["near_duplicates"],
                reference_similarity=figures.get("reference_similarity"),
                reference_near_duplicates=figures.get("reference_near_duplicates"),
                gap=figures.get("gap"),
                share_closer=figures.get("share_closer"),
                histogram=findings.count(gap),
                cumulative=findings.accumulate(gap),
                train_histogram=train_side.histograms[name],
                classes=findings.measure_classes(gap, labels, of.duplicates),
                leakage=findings.list_leakage(near, of.leakage, of_test, of_train),
                pruned=None if pruned is None else pruned.count_of(place),
                certificates=Certificates(
                    train=near.certificate,
                    nearest=train_side.certificates[name],
                    reference=in_reference[name].certificate if name in in_reference else None,
                    pruned=None if pruned is None else pruned.certificates[name],
                ),
            )
        )
    return tuple(scored)


# ---------------------------------------------------------------- what is known of rows


class _Names:
    """Keys, labels and images of rows, from their metadata, of which some rows are read at a time."""

    def __init__(self, rows: Embeddings, images: str | Path | None) -> None:
        self.rows = rows
        self._images = None if images is None else Path(images).resolve()
        self._keys: dict[int, str] = {}

    def column(self, name: str) -> list[str | None] | None:
        """Return a column of all rows, or None where not all shards have it."""
        shards = range(len(self.rows.shards))
        if not all(name in self.rows.columns(shard) for shard in shards):
            return None
        return [
            value
            for shard in shards
            for part in self.rows.key_batches(shard, name)
            for value in part
        ]

    def look_up(self, rows: I64) -> None:
        """Find the keys of some rows of the source; places below 0 are none."""
        wanted = np.unique(rows[rows >= 0])
        shards = np.unique(np.searchsorted(self.rows.starts, wanted, side="right") - 1)
        for shard in shards.tolist():
            start = int(self.rows.starts[shard])
            for keys in self.rows.key_batches(shard):
                low, high = np.searchsorted(wanted, [start, start + len(keys)])
                for row in wanted[low:high].tolist():
                    key = keys[row - start]
                    if key is not None:
                        self._keys[row] = key
                start += len(keys)

    def key(self, row: int) -> str | None:
        """Return the key of a row that was looked up, or None where it has none."""
        return self._keys.get(row)

    def path(self, key: str | None) -> str | None:
        """Return the image that a key names below the folder of images, if it lies there.

        Where that folder lies is this machine's business, and no scores'.
        """
        if key is None or self._images is None:
            return None
        path = (self._images / key).resolve()
        if not path.is_relative_to(self._images) or not files.is_file(path):
            return None
        return path.relative_to(self._images).as_posix()


def _describe(
    names: _Names,
    labels: Sequence[str | None] | None,
    row: int,
    similarity: float,
    train: tuple[Neighbor, ...],
) -> Leak:
    key = names.key(row)
    label = None if labels is None else labels[row]
    return Leak(row, key, names.path(key), label, similarity, train)


def _describe_neighbor(names: _Names, row: int, similarity: float) -> Neighbor:
    shard, place = names.rows.place(row)
    key = names.key(row)
    return Neighbor(row, names.rows.shards[shard].name, place, key, names.path(key), similarity)


# ---------------------------------------------------------------- records


def _write_tests(
    path: Path, found: SimilarityGap, names: _Names, labels: Sequence[str | None] | None
) -> None:
    import pyarrow
    import pyarrow.parquet

    count = len(found.similarity)
    keys = [names.key(row) for row in range(count)]
    columns: dict[str, Any] = {"row": pyarrow.array(range(count), pyarrow.int64())}
    if any(key is not None for key in keys):
        columns["key"] = pyarrow.array(keys, pyarrow.string())
    if labels is not None:
        columns["label"] = pyarrow.array(labels, pyarrow.string())
    columns["similarity"] = found.similarity
    columns["index"] = found.index[:, 0]
    columns["density"] = found.density
    if found.reference is not None:
        columns["reference"] = found.reference
    files.make_folder(path.parent)
    with files.atomic(path) as file:
        pyarrow.parquet.write_table(pyarrow.table(columns), file)


@dataclasses.dataclass(frozen=True, eq=False)
class _TrainSide:
    """How the training rows lie by their similarity to each test set."""

    histograms: dict[str, tuple[int, ...]]
    certificates: dict[str, Certificate]
    skipped: int


def _write_nearest(of: _Audit, parts: Parts[Nearest]) -> _TrainSide:
    """Write each training row's nearest test row of every set; one part is held at a time."""
    folder, rows, sets = of.records / "train", of.rows, of.sets
    counts = {name: np.zeros(findings.BINS, dtype=np.int64) for name in sets}
    certificates: dict[str, Certificate] = {}
    files.make_folder(folder)
    with contextlib.ExitStack() as stack:
        values = {
            name: _growing(stack, folder / f"{name}.npy", len(rows), np.float32) for name in sets
        }
        places = {
            name: _growing(stack, folder / f"{name}.index.npy", len(rows), np.int64)
            for name in sets
        }
        for found in parts:
            for name, near in found.items():
                values[name].write(near.similarity.tobytes())
                places[name].write(near.index.tobytes())
                counts[name] += histogram(near.similarity, findings.BINS)[1]
                certificates[name] = _join(certificates.get(name), near.certificate)
    skipped = next(iter(certificates.values())).skipped
    histograms = {name: tuple(count.tolist()) for name, count in counts.items()}
    return _TrainSide(histograms, certificates, skipped)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pruned:
    """How many rows gap-matched pruning removes, for each test set and for several."""

    names: list[str]
    both: I64
    combined: int
    rows: int
    certificates: dict[str, Certificate]

    def count_of(self, number: int) -> PrunedRows:
        """Return what one test set costs."""
        count = int(self.both[number, number])
        return PrunedRows(count, count / self.rows)

    def sum_up(self) -> PruningCosts:
        """Return what all of them cost, and what each costs of the others'."""
        own = np.diag(self.both)
        shared = tuple(
            tuple(int(both) / int(of) if of else None for both, of in zip(row, own, strict=True))
            for row in self.both
        )
        return PruningCosts(tuple(self.names), self.combined, self.combined / self.rows, shared)


def _prune(of: _Audit, gaps: Mapping[str, SimilarityGap]) -> _Pruned:
    """Prune for every test set, and write which training rows each costs; one part is held at a time."""
    limits = {name: gap.reference for name, gap in gaps.items() if gap.reference is not None}
    parts = search_in_parts(AboveQuestion(limits), of.rows, of.sets, of.how)
    folder, rows = of.records / "removed", of.rows
    names = list(limits)
    both = np.zeros((len(names),) * 2, dtype=np.int64)
    combined = 0
    certificates: dict[str, Certificate] = {}
    files.make_folder(folder)
    with contextlib.ExitStack() as stack:
        removed = {
            name: _growing(stack, folder / f"{name}.npy", len(rows), np.bool_) for name in names
        }
        for found in parts:
            marks = np.stack([found[name].marked for name in names])
            both += [[int((one & other).sum()) for other in marks] for one in marks]
            combined += int(marks.any(axis=0).sum())
            for name, mark in zip(names, marks, strict=True):
                removed[name].write(mark.tobytes())
                certificates[name] = _join(certificates.get(name), found[name].certificate)
    return _Pruned(names, both, combined, len(rows), certificates)


def _growing(stack: contextlib.ExitStack, path: Path, count: int, dtype: DTypeLike) -> IO[bytes]:
    """Open an ``.npy`` of ``count`` values that come one part after the other."""
    file = stack.enter_context(files.atomic(path))
    head = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, head)
    return file


def _join(first: Certificate | None, second: Certificate) -> Certificate:
    return second if first is None else first.merge(second)
