"""Settings and raw results of the train-test similarity experiment."""

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
"""The test sets: clean, the 19 corruptions, and stylized."""

ALL, ALONE = "all", "the reference alone"
"""Trainings on both complete sets, and on the reference alone."""

GAP_MATCHED = "gap-matched"
Rule: TypeAlias = Literal["random", "near", "far"]
RANDOM: Rule = "random"
NEAR: Rule = "near"
FAR: Rule = "far"
CONTROLS = (RANDOM, NEAR, FAR)
"""Control rules, which prune the large set to the same size as gap-matched pruning."""

COMBINED = "combined"
"""Pruning for all pruned test sets at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment.

    Args:
        large: number of images of the large training set.
        reference: number of images of the reference.
        clean: share of clean images in the large set; the others have one of the benchmark's 15
            corruptions at a severity of 1 to 5, or a style.
        test: number of images in each test set.
        tests: test sets; the 4 hold-out corruptions are in no training set.
        severity: severity of the corrupted test sets.
        pruned: the test sets for which the large set is pruned.
        side: size of the encoder's input. An image takes 4 ms on one core at 64 and 23 ms at the
            encoder's default of 224; at 48 it hardly distinguishes the classes.
        neighbors: number of nearest training rows whose mean similarity is the density.
        training: training settings of the networks.
        seen: number of images shown in each training, so that all have the same number of steps.
        seeds: random seeds of the trainings.
        seed: random seed of the images.
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
    def piece_settings(self) -> Settings:
        """The settings that determine images and embeddings, which runs with other trainings
        share.
        """
        names = ("large", "reference", "clean", "test", "tests", "severity", "side", "seed")
        settings = to_json(self)
        return {name: settings[name] for name in names}


@dataclass(frozen=True, eq=False)
class SearchResults:
    """The results of the similarity searches.

    Attributes:
        gaps: for each test set its nearest rows in the large set and in the reference.
        pruning: the rows of the large set removed for each pruned test set.
        proofs: the verification of the pruning.
        kept: for each training its rows of the large set.
    """

    gaps: dict[str, SimilarityGap]
    pruning: Pruning
    proofs: dict[str, Proof]
    kept: dict[str, Flags]


@dataclass(frozen=True, eq=False)
class Measured:
    """All results, from which tables and findings are made.

    Attributes:
        found: the results of the similarity searches.
        answers: for each training its answers, one per seed.
        seconds: CPU seconds by part.
    """

    found: SearchResults
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
    """Return the name of a training on the images kept by a pruning for a test set."""
    return f"{test}: {rule}"
