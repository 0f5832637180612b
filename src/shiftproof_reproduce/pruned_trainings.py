"""The same small network trained on what each pruning keeps, and what it answers on every test set."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof import Classifier
from shiftproof.compute.processes import map_ordered
from shiftproof.compute.progress import progress
from shiftproof.io import atomic, fingerprint, make_folder, read_json, write_json
from shiftproof.rng import generator
from shiftproof.types import Settings
from shiftproof_reproduce.embedded_pieces import Place
from shiftproof_reproduce.network import predict_classes, wrap_classifier
from shiftproof_reproduce.result import slug, to_json
from shiftproof_reproduce.shifted_fashion import Gray
from shiftproof_reproduce.training import Training, train

Flags = NDArray[np.bool_]

LARGE, REFERENCE = "large", "reference"
"""The pieces that are trained on."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one training comes to.

    Attributes:
        right: for each test set ``(M,)`` bool, the images whose class was found.
        seconds: of the CPU.
    """

    right: Mapping[str, Flags]
    seconds: float

    def accuracy(self, name: str) -> float:
        """Return the share of a test set that is right."""
        return float(self.right[name].mean())


@dataclass(frozen=True, eq=False)
class Task:
    """What all trainings share.

    Attributes:
        folder: where the pieces lie, and where the trainings go.
        training: how each is trained; its epochs and seed are set here.
        seen: images that each is shown, however many it has.
        labels: for ``LARGE`` and ``REFERENCE`` ``(N,)``.
        test_labels: ``(M,)``, of every test set.
        tests: names of the test sets.
    """

    folder: Path
    training: Training
    seen: int
    labels: Mapping[str, NDArray[np.int64]]
    test_labels: NDArray[np.int64]
    tests: Sequence[str]


def train_all(
    task: Task,
    kept: Mapping[str, Flags],
    seeds: Sequence[int],
    *,
    workers: int,
    show_progress: bool | None = None,
) -> dict[str, list[Answers]]:
    """Train on the reference and what is kept of the large piece, with every seed.

    A training that is there is not repeated, and one that was interrupted is begun again.

    ``kept`` says by name which rows ``(N,)`` of the large piece are trained on; ``seeds`` are those
    of first weights and order of the images; with 0 workers all is done here.
    """
    for name in ("trainings", "answers"):
        make_folder(task.folder / name)
    jobs = [(name, np.packbits(rows), seed) for seed in seeds for name, rows in kept.items()]
    found: dict[str, list[Answers]] = {name: [] for name in kept}
    results = map_ordered(_train_one, jobs, context=task, workers=workers)
    with progress("Training", len(jobs), show=show_progress) as advance:
        for (name, _, seed), answers in zip(jobs, results, strict=True):
            found[name].append(answers)
            advance(note=f"{name}, seed {seed}")
    return found


def draw_balanced(count: int, seen: int, *, seed: int) -> NDArray[np.int64]:
    """Return ``(seen,)`` numbers below ``count``: all of them in turn, each turn in another order."""
    turns = -(-seen // count)
    orders = [generator(seed, "turn", str(turn)).permutation(count) for turn in range(turns)]
    chosen: NDArray[np.int64] = np.concatenate(orders)[:seen]
    return chosen


def _train_one(task: Task, job: tuple[str, NDArray[np.uint8], int]) -> Answers:
    """Train and answer, or read the answers that are there; runs in a worker."""
    name, packed, seed = job
    file_name = f"{slug(name)}-{seed}"
    about: Settings = {
        "training": to_json(task.training),
        "seen": task.seen,
        "kept": fingerprint([packed.tobytes()]),
        "tests": list(task.tests),
        "seed": seed,
    }
    record = task.folder / "answers" / f"{file_name}.json"
    answers = task.folder / "answers" / f"{file_name}.npy"
    if record.exists():
        read = read_json(record)
        if {key: read.get(key) for key in about} == about:
            right = np.load(answers, allow_pickle=False)
            return Answers(dict(zip(task.tests, right, strict=True)), float(read["seconds"]))
    begun = time.process_time()
    rows = np.unpackbits(packed, count=len(task.labels[LARGE])).astype(bool)
    images, labels = _draw_shown(task, rows, seed)
    network = train(
        images,
        labels,
        task.folder / "trainings" / f"{file_name}.pt",
        dataclasses.replace(task.training, epochs=1, seed=seed),
        show_progress=False,
    )
    right = _answer(task, wrap_classifier(network))
    with atomic(answers) as file:
        np.save(file, right)
    spent = round(time.process_time() - begun, 1)
    write_json(record, {**about, "seconds": spent})
    return Answers(dict(zip(task.tests, right, strict=True)), spent)


def _draw_shown(task: Task, rows: Flags, seed: int) -> tuple[Gray, NDArray[np.uint8]]:
    """Return the images that a training is shown, in their order, and their labels."""
    place = Place(task.folder)
    images = np.concatenate([place.images(LARGE)[rows], place.images(REFERENCE)])
    labels = np.concatenate([task.labels[LARGE][rows], task.labels[REFERENCE]])
    chosen = draw_balanced(len(images), task.seen, seed=seed)
    return images[chosen], labels[chosen].astype(np.uint8)


def _answer(task: Task, classifier: Classifier) -> NDArray[np.bool_]:
    """Return ``(T, M)``: for each test set the images whose class is found."""
    shown = (Place(task.folder).images(test) for test in task.tests)
    return np.stack([predict_classes(classifier, images) == task.test_labels for images in shown])
