"""The train-test similarity audit: how similar a training set is to each test set."""

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
from shiftproof.similarity import audit_scores
from shiftproof.similarity.gap import SimilarityGap, check_threshold, histogram, make_gap
from shiftproof.similarity.questions.above import AboveQuestion
from shiftproof.similarity.questions.nearest import Nearest, NearestQuestion
from shiftproof.similarity.questions.top_k import TopK
from shiftproof.similarity.run import begin_run, describe_source
from shiftproof.similarity.sharded import Parts, Sharding, search_in_parts, top_k_in_parts
from shiftproof.similarity.sources import Embeddings, Source, open_embeddings, open_sources
from shiftproof.types import I64, Settings

if TYPE_CHECKING:
    from shiftproof.runs.run import AuditRun

KIND: Literal["similarity"] = "similarity"

NEAR_DUPLICATE = 0.95
"""Smallest similarity at which a training row counts as a near-duplicate of a test row."""

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
    """Measure how similar a training set is to each of several test sets, and write the results.

    The folder has ``run.json`` (settings and provenance), ``scores.json`` (all figures),
    ``records/tests/NAME.parquet`` (one row per test row), ``records/train/NAME.npy`` and
    ``NAME.index.npy`` (each training row's similarity to its nearest test row, and that row), with
    a reference ``records/removed/NAME.npy`` (the rows that gap-matched pruning removes), and
    ``parts/``, from which an interrupted audit resumes.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name.
        out: a new or empty folder, or that of the audit to resume.
        reference: embeddings of the training set to compare with, such as ImageNet's.
        k: number of nearest training rows whose mean similarity is the density.
        duplicates: smallest similarity of a near-duplicate.
        leakage: number of test rows to list with their nearest training rows.
        images: for each test set, the folder of its images, named by its keys; for the report.
        train_images: the same for the training set.
        sharding: how and where the search runs; its ``folder`` is ignored. By default one process
            per core.

    Returns:
        The finished run: ``run.scores`` has all figures, ``run.records()`` those of single rows.

    Raises:
        InputError: invalid input of the searches, or a test set's name that is not a valid file
            name.
        RunMismatchError: the folder belongs to another audit.
        UnfinishedError: this worker's share is done, but not all the others'.
    """
    rows, sets = open_sources(train, tests)
    folder = Path(out)
    inputs = _AuditInputs(
        rows=rows,
        sets=sets,
        reference=None if reference is None else open_embeddings(reference),
        folder=folder,
        sharding=dataclasses.replace(sharding or Sharding(folder), folder=folder / "parts"),
        k=k,
        duplicates=duplicates,
        leakage=leakage,
        images=images or {},
        train_images=train_images,
    )
    from shiftproof.runs.run import AuditRun  # with the runs of all other kinds

    _check_inputs(inputs)
    begin_run(folder, KIND, _list_settings(inputs), inputs.sharding)
    run = AuditRun(folder)
    write_form(run.folder.scores_file, _score(inputs, _search(inputs)))
    return run


def _score(inputs: _AuditInputs, found: _NearestRows) -> AuditScores:
    gaps = _compute_gaps(found)
    train_nearest = _write_train_records(inputs, found.nearest)
    pruned = None if inputs.reference is None else _count_pruned(inputs, gaps)
    in_reference = found.of_reference or {}
    skipped = max((one.certificate.skipped for one in in_reference.values()), default=0)
    return AuditScores(
        format=FORMAT,
        kind=KIND,
        measure=MEASURE,
        interval=audit_scores.INTERVAL,
        k=inputs.k,
        duplicates=inputs.duplicates,
        train=_count_rows(inputs.rows, train_nearest.skipped),
        reference=None if inputs.reference is None else _count_rows(inputs.reference, skipped),
        edges=tuple(histogram([0.0], audit_scores.BINS)[0].tolist()),
        sets=_score_sets(inputs, found, gaps, train_nearest, pruned),
        pruning=None if pruned is None else pruned.summarize(),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _AuditInputs:
    """The arguments of :func:`audit`."""

    rows: Embeddings
    sets: dict[str, Embeddings]
    reference: Embeddings | None
    folder: Path
    sharding: Sharding
    k: int
    duplicates: float
    leakage: int
    images: Mapping[str, str | Path]
    train_images: str | Path | None

    @property
    def records(self) -> Path:
        """The folder with the figures of single rows."""
        return self.folder / "records"


def _check_inputs(inputs: _AuditInputs) -> None:
    for name in inputs.sets:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"Expected names of test sets of letters, digits, '.', '_' and '-', got {name!r}."
            )
    check_threshold(inputs.duplicates)
    if inputs.k < 1:
        raise InputError(f"Expected k of 1 or more, got {inputs.k}.")
    if inputs.leakage < 0:
        raise InputError(f"Expected 0 or more test rows to show, got {inputs.leakage}.")


def _list_settings(inputs: _AuditInputs) -> Settings:
    return {
        "train": describe_source(inputs.rows),
        "tests": {name: describe_source(of_set) for name, of_set in inputs.sets.items()},
        "reference": None if inputs.reference is None else describe_source(inputs.reference),
        "k": inputs.k,
        "duplicates": inputs.duplicates,
        "leakage": inputs.leakage,
        "normalise": inputs.rows.normalize,
        "unusable": inputs.rows.unusable,
    }


def _count_rows(rows: Embeddings, skipped: int) -> RowCounts:
    return RowCounts(len(rows), skipped, rows.width, len(rows.shards))


# ---------------------------------------------------------------- the searches


@dataclasses.dataclass(frozen=True, eq=False)
class _NearestRows:
    """The results of the searches.

    Attributes:
        near: for each test set, the nearest training rows of its rows.
        of_reference: for each test set, their nearest reference row; None without a reference.
        nearest: the parts with each training row's nearest test rows.
    """

    near: dict[str, TopK]
    of_reference: dict[str, TopK] | None
    nearest: Parts[Nearest]


def _search(inputs: _AuditInputs) -> _NearestRows:
    """Run this worker's share of the searches, then check whether the other workers have run
    theirs.
    """
    unfinished: list[UnfinishedError] = []
    near: dict[str, TopK] = {}
    of_reference_rows: dict[str, TopK] | None = None
    nearest: Parts[Nearest] | None = None
    with _collect_unfinished(unfinished):
        near = top_k_in_parts(inputs.rows, inputs.sets, inputs.sharding, inputs.k)
    with _collect_unfinished(unfinished):
        nearest = search_in_parts(NearestQuestion(), inputs.rows, inputs.sets, inputs.sharding)
    if inputs.reference is not None:
        with _collect_unfinished(unfinished):
            of_reference_rows = top_k_in_parts(
                inputs.reference, inputs.sets, inputs.sharding.within("reference"), 1
            )
    if unfinished:
        raise unfinished[0]
    assert nearest is not None
    return _NearestRows(near, of_reference_rows, nearest)


@contextlib.contextmanager
def _collect_unfinished(unfinished: list[UnfinishedError]) -> Iterator[None]:
    try:
        yield
    except UnfinishedError as error:
        unfinished.append(error)


def _compute_gaps(found: _NearestRows) -> dict[str, SimilarityGap]:
    """Return the gap of each test set."""
    reference = found.of_reference
    return {
        name: make_gap(near, None if reference is None else reference[name])
        for name, near in found.near.items()
    }


# ---------------------------------------------------------------- scores of the test sets


def _score_sets(
    inputs: _AuditInputs,
    found: _NearestRows,
    gaps: Mapping[str, SimilarityGap],
    train_nearest: _TrainNearest,
    pruned: _PruningCounts | None,
) -> tuple[TestSet, ...]:
    """Return each test set's entry of ``scores.json``, and write the records of its rows."""
    in_reference = found.of_reference or {}
    shown = [
        one.index[
            audit_scores.find_most_similar(one, inputs.leakage), : audit_scores.NEIGHBORS_SHOWN
        ]
        for one in found.near.values()
    ]
    train_names = _RowMetadata(inputs.rows, inputs.train_images)
    train_names.load_keys(np.concatenate([index.ravel() for index in shown]))
    of_train = functools.partial(_describe_neighbor, train_names)
    scored = []
    for place, (name, of_set) in enumerate(inputs.sets.items()):
        names = _RowMetadata(of_set, inputs.images.get(name))
        names.load_keys(np.arange(len(of_set)))
        labels = names.column("label")
        _write_test_records(inputs.records / "tests" / f"{name}.parquet", gaps[name], names, labels)
        of_test = functools.partial(_describe_leak, names, labels)
        near, gap = found.near[name], gaps[name]
        figures = audit_scores.compute_intervals(gap, inputs.duplicates)
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
                histogram=audit_scores.count_histograms(gap),
                cumulative=audit_scores.make_curves(gap),
                train_histogram=train_nearest.histograms[name],
                classes=audit_scores.measure_classes(gap, labels, inputs.duplicates),
                leakage=audit_scores.list_leakage(near, inputs.leakage, of_test, of_train),
                pruned=None if pruned is None else pruned.get_costs(place),
                certificates=Certificates(
                    train=near.certificate,
                    nearest=train_nearest.certificates[name],
                    reference=in_reference[name].certificate if name in in_reference else None,
                    pruned=None if pruned is None else pruned.certificates[name],
                ),
            )
        )
    return tuple(scored)


# ---------------------------------------------------------------- metadata of rows


class _RowMetadata:
    """Keys, labels and images of rows, from their metadata, which is read in batches."""

    def __init__(self, rows: Embeddings, images: str | Path | None) -> None:
        self.rows = rows
        self._images = None if images is None else Path(images).resolve()
        self._keys: dict[int, str] = {}

    def column(self, name: str) -> list[str | None] | None:
        """Return a column for all rows, or None if a shard lacks it."""
        shards = range(len(self.rows.shards))
        if not all(name in self.rows.columns(shard) for shard in shards):
            return None
        return [
            value
            for shard in shards
            for part in self.rows.key_batches(shard, name)
            for value in part
        ]

    def load_keys(self, rows: I64) -> None:
        """Load the keys of some rows of the source; indices below 0 are ignored."""
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
        """Return the loaded key of a row, or None if it has none."""
        return self._keys.get(row)

    def path(self, key: str | None) -> str | None:
        """Return the path of the key's image relative to the image folder, or None if there is
        none.

        Relative, so that scores do not contain paths of this machine.
        """
        if key is None or self._images is None:
            return None
        path = (self._images / key).resolve()
        if not path.is_relative_to(self._images) or not files.is_file(path):
            return None
        return path.relative_to(self._images).as_posix()


def _describe_leak(
    names: _RowMetadata,
    labels: Sequence[str | None] | None,
    row: int,
    similarity: float,
    train: tuple[Neighbor, ...],
) -> Leak:
    key = names.key(row)
    label = None if labels is None else labels[row]
    return Leak(row, key, names.path(key), label, similarity, train)


def _describe_neighbor(names: _RowMetadata, row: int, similarity: float) -> Neighbor:
    shard, place = names.rows.place(row)
    key = names.key(row)
    return Neighbor(row, names.rows.shards[shard].name, place, key, names.path(key), similarity)


# ---------------------------------------------------------------- records


def _write_test_records(
    path: Path, found: SimilarityGap, names: _RowMetadata, labels: Sequence[str | None] | None
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
class _TrainNearest:
    """Histograms of the training rows by their similarity to the nearest row of each test set."""

    histograms: dict[str, tuple[int, ...]]
    certificates: dict[str, Certificate]
    skipped: int


def _write_train_records(inputs: _AuditInputs, parts: Parts[Nearest]) -> _TrainNearest:
    """Write each training row's nearest test row of every set; one part is in memory at a time."""
    folder, rows, sets = inputs.records / "train", inputs.rows, inputs.sets
    counts = {name: np.zeros(audit_scores.BINS, dtype=np.int64) for name in sets}
    certificates: dict[str, Certificate] = {}
    files.make_folder(folder)
    with contextlib.ExitStack() as stack:
        values = {
            name: _open_npy(stack, folder / f"{name}.npy", len(rows), np.float32) for name in sets
        }
        places = {
            name: _open_npy(stack, folder / f"{name}.index.npy", len(rows), np.int64)
            for name in sets
        }
        for found in parts:
            for name, near in found.items():
                values[name].write(near.similarity.tobytes())
                places[name].write(near.index.tobytes())
                counts[name] += histogram(near.similarity, audit_scores.BINS)[1]
                certificates[name] = _merge_certificates(certificates.get(name), near.certificate)
    skipped = next(iter(certificates.values())).skipped
    histograms = {name: tuple(count.tolist()) for name, count in counts.items()}
    return _TrainNearest(histograms, certificates, skipped)


@dataclasses.dataclass(frozen=True, eq=False)
class _PruningCounts:
    """Numbers of rows that gap-matched pruning removes for each test set, each pair, and all of
    them.
    """

    names: list[str]
    overlap: I64
    combined: int
    rows: int
    certificates: dict[str, Certificate]

    def get_costs(self, number: int) -> PrunedRows:
        """Return the number and the share of rows removed for one test set."""
        count = int(self.overlap[number, number])
        return PrunedRows(count, count / self.rows)

    def summarize(self) -> PruningCosts:
        """Return the number and the share of rows removed for all test sets, and their overlaps."""
        own = np.diag(self.overlap)
        shared = tuple(
            tuple(
                int(overlap) / int(inputs) if inputs else None
                for overlap, inputs in zip(row, own, strict=True)
            )
            for row in self.overlap
        )
        return PruningCosts(tuple(self.names), self.combined, self.combined / self.rows, shared)


def _count_pruned(inputs: _AuditInputs, gaps: Mapping[str, SimilarityGap]) -> _PruningCounts:
    """Prune for every test set, and write the removed rows; one part is in memory at a time."""
    limits = {name: gap.reference for name, gap in gaps.items() if gap.reference is not None}
    parts = search_in_parts(AboveQuestion(limits), inputs.rows, inputs.sets, inputs.sharding)
    folder, rows = inputs.records / "removed", inputs.rows
    names = list(limits)
    overlap = np.zeros((len(names),) * 2, dtype=np.int64)
    combined = 0
    certificates: dict[str, Certificate] = {}
    files.make_folder(folder)
    with contextlib.ExitStack() as stack:
        removed = {
            name: _open_npy(stack, folder / f"{name}.npy", len(rows), np.bool_) for name in names
        }
        for found in parts:
            marks = np.stack([found[name].marked for name in names])
            overlap += [[int((one & other).sum()) for other in marks] for one in marks]
            combined += int(marks.any(axis=0).sum())
            for name, mark in zip(names, marks, strict=True):
                removed[name].write(mark.tobytes())
                certificates[name] = _merge_certificates(
                    certificates.get(name), found[name].certificate
                )
    return _PruningCounts(names, overlap, combined, len(rows), certificates)


def _open_npy(stack: contextlib.ExitStack, path: Path, count: int, dtype: DTypeLike) -> IO[bytes]:
    """Open an ``.npy`` file to which ``count`` values are written in parts."""
    file = stack.enter_context(files.atomic(path))
    head = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, head)
    return file


def _merge_certificates(first: Certificate | None, second: Certificate) -> Certificate:
    return second if first is None else first.merge(second)
