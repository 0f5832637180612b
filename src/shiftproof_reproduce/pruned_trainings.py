"""Training the same small network on the images that each pruning keeps, and evaluating it."""

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
from shiftproof_reproduce.embedded_pieces import PieceFolder
from shiftproof_reproduce.network import predict_classes, wrap_classifier
from shiftproof_reproduce.result import slug, to_json
from shiftproof_reproduce.shifted_fashion import Gray
from shiftproof_reproduce.training import Training, train

Flags = NDArray[np.bool_]

LARGE, REFERENCE = "large", "reference"
"""Names of the pieces used for training."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The results of one training.

    Attributes:
        right: for each test set ``(M,)`` bool, the correctly classified images.
        seconds: CPU seconds.
    """

    right: Mapping[str, Flags]
    seconds: float

    def accuracy(self, name: str) -> float:
        """Return the accuracy on a test set."""
        return float(self.right[name].mean())


@dataclass(frozen=True, eq=False)
class Task:
    """The common arguments of all trainings.

    Attributes:
        folder: the folder of the pieces and of the trainings.
        training: training settings, except epochs and seed.
        seen: number of images shown in each training, regardless of the size of its training set.
        labels: ``(N,)`` for ``LARGE`` and ``REFERENCE``.
        test_labels: ``(M,)``, the same for every test set.
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
    """Train on the reference and the kept rows of the large piece, with every seed.

    Finished trainings are not repeated, and interrupted ones start again. ``kept`` has for each
    training the kept rows ``(N,)`` of the large piece; ``seeds`` determine initial weights and the
    order of images; 0 workers use this process.
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
    """Return ``(seen,)`` indices below ``count``: repeated permutations of all of them."""
    turns = -(-seen // count)
    orders = [generator(seed, "turn", str(turn)).permutation(count) for turn in range(turns)]
    chosen: NDArray[np.int64] = np.concatenate(orders)[:seen]
    return chosen


def _train_one(task: Task, job: tuple[str, NDArray[np.uint8], int]) -> Answers:
    """Train and evaluate a network, or read its answers; runs in a worker."""
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
    images, labels = _draw_images(task, rows, seed)
    network = train(
        images,
        labels,
        task.folder / "trainings" / f"{file_name}.pt",
        dataclasses.replace(task.training, epochs=1, seed=seed),
        show_progress=False,
    )
    right = _predict_tests(task, wrap_classifier(network))
    with atomic(answers) as file:
        np.save(file, right)
    spent = round(time.process_time() - begun, 1)
    write_json(record, {**about, "seconds": spent})
    return Answers(dict(zip(task.tests, right, strict=True)), spent)


def _draw_images(task: Task, rows: Flags, seed: int) -> tuple[Gray, NDArray[np.uint8]]:
    """Return the images of a training in their order, and their labels."""
    place = PieceFolder(task.folder)
    images = np.concatenate([place.images(LARGE)[rows], place.images(REFERENCE)])
    labels = np.concatenate([task.labels[LARGE][rows], task.labels[REFERENCE]])
    chosen = draw_balanced(len(images), task.seen, seed=seed)
    return images[chosen], labels[chosen].astype(np.uint8)


def _predict_tests(task: Task, classifier: Classifier) -> NDArray[np.bool_]:
    """Return ``(T, M)``: for each test set the correctly classified images."""
    shown = (PieceFolder(task.folder).images(test) for test in task.tests)
    return np.stack([predict_classes(classifier, images) == task.test_labels for images in shown])
