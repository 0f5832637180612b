"""How much is measured of train-test similarity, and what comes of it before it is put into tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.similarity import Proof, Pruning, SimilarityGap
from shiftproof.types import Settings
from shiftproof_reproduce.pruned_trainings import Answers
from shiftproof_reproduce.result import to_json
from shiftproof_reproduce.shifted_fashion import CLEAN, STYLIZED
from shiftproof_reproduce.training import Training

Flags = NDArray[np.bool_]

PAPER = "Mayilvahanan et al. 2024"

TESTS = (CLEAN, *COMMON, *HOLDOUT, STYLIZED)
"""The test sets: as they are, the 19 corruptions, and in the manner of drawn styles."""

ALL, ALONE = "all", "the reference alone"
"""Trainings on both sets whole, and on the reference alone."""

GAP_MATCHED = "gap-matched"
Rule: TypeAlias = Literal["random", "near", "far"]
RANDOM: Rule = "random"
NEAR: Rule = "near"
FAR: Rule = "far"
CONTROLS = (RANDOM, NEAR, FAR)
"""The rules by which the large set is pruned; the last three to the size that the first leaves."""

COMBINED = "combined"
"""Pruning for all pruned test sets at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Args:
        large: images of the large training set.
        reference: of the reference training set.
        clean: share of the large one that is clean; the rest is shifted in one of the benchmark's 15
            corruptions or a style, each at a severity of 1 to 5.
        test: test images, in each of ``tests``.
        tests: test sets; the 4 hold-out corruptions are in no training set.
        severity: of the corrupted test sets.
        pruned: the test sets that are pruned for.
        side: pixels that the encoder is shown. An image takes 4 ms of one core at 64 and 23 ms at the
            encoder's own 224; at 48 it hardly tells the classes apart.
        neighbors: that make the density.
        training: of the networks.
        seen: images that each training is shown, so that all take as many steps.
        seeds: of the trainings.
        seed: of the images.
    """

    large: int = 12_000
    reference: int = 6_000
    clean: float = 0.5
    test: int = 500
    tests: tuple[str, ...] = TESTS
    severity: int = 3
    pruned: tuple[str, ...] = ("gaussian_noise", "fog", STYLIZED)
    side: int = 64
    neighbors: int = 10
    training: Training = dataclasses.field(default_factory=lambda: Training(widths=(16, 32, 64)))
    seen: int = 36_000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    seed: int = 0

    @property
    def of_the_pieces(self) -> Settings:
        """What decides images and embeddings; a run with other trainings uses the same."""
        names = ("large", "reference", "clean", "test", "tests", "severity", "side", "seed")
        settings = to_json(self)
        return {name: settings[name] for name in names}


@dataclass(frozen=True, eq=False)
class Found:
    """What the embeddings say.

    Attributes:
        gaps: for each test set its nearest rows in the large set and in the reference.
        pruning: which rows of the large set each pruned test set costs.
        proofs: what is left, searched once more.
        kept: for each training the rows of the large set that it has.
    """

    gaps: dict[str, SimilarityGap]
    pruning: Pruning
    proofs: dict[str, Proof]
    kept: dict[str, Flags]


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found; the tables and findings are made of it.

    Attributes:
        found: by the embeddings.
        answers: for each training its answers, one per seed.
        seconds: of the CPU, by part.
    """

    found: Found
    answers: dict[str, list[Answers]]
    seconds: dict[str, float]

    def accuracies(self, training: str, test: str) -> list[float]:
        """Return the accuracy of each repetition of a training on a test set."""
        return [each.accuracy(test) for each in self.answers[training]]

    def nearest(self, test: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ``(M,)`` the similarity of each test image to the large set, and to the reference."""
        gap = self.found.gaps[test]
        assert gap.reference is not None
        return np.asarray(gap.similarity), np.asarray(gap.reference)


def name_training(test: str, rule: str) -> str:
    """Return the name of a training on what is left after pruning for a test set."""
    return f"{test}: {rule}"
