"""A router's record of its experts: estimated errors, labels, and the resulting weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof.adapt.base.probabilities import Probabilities
from shiftproof.adapt.safeguards.error_estimates import (
    UNKNOWN,
    Basis,
    MeanAnswers,
    Shift,
    estimate_errors,
)
from shiftproof.adapt.safeguards.expert_weights import Weights, follow_losses, weigh_votes
from shiftproof.errors import InputError

ESTIMATE_RATE = 1.0
"""Learning rate of the weights by estimated errors, per image."""

ESTIMATE_SHARE = 0.02
"""Share of the initial weights mixed into these with each batch, to follow changes."""

HEAD_START = 1.0
"""Initial advantage of the source over other experts, in nats."""

LABEL_RATE = 1.0
"""Learning rate of the weights by labels, per label."""

LABEL_SHARE = 0.01
"""Share of the initial weights mixed into these with each label."""

UNLABELED_WEIGHT = 0.9
"""Initial weight of the choice without labels; the experts share the rest evenly."""

LABEL_WINDOW = 4096
"""Number of recent images whose predictions are kept for later labels."""

NO_PREDICTION = -1
"""The class that stands for a missing prediction of an excluded expert."""


def make_expert_weights(experts: int) -> Weights:
    """Return the initial weights of the experts, the source first."""
    odds = np.ones(experts)
    odds[0] = math.exp(HEAD_START)
    return np.asarray(odds / odds.sum())


def make_voter_weights(experts: int) -> Weights:
    """Return the initial weights of the choice without labels and of each expert."""
    return np.concatenate([[UNLABELED_WEIGHT], np.full(experts, (1 - UNLABELED_WEIGHT) / experts)])


@dataclass(frozen=True, eq=False)
class Ledger:
    """The record of E experts, the source first; created by :func:`open_ledger`.

    Attributes:
        by_estimates: ``(E,)`` weights of the experts by estimated errors.
        by_labels: ``(1 + E,)`` weights of the choice without labels and of the experts, by labels.
        estimates: ``(E,)`` estimated error rates on the last batch.
        mistakes: ``(1 + E,)`` wrong predictions on the labeled images.
        labels: number of labels.
        images: number of images.
        given: ``(M, 2 + E)`` int32 for the last M images: the predictions of the choice without
            labels and of each expert, and whether the image has a label.
        mean: running means of the predictions.
    """

    by_estimates: Weights
    by_labels: Weights
    estimates: NDArray[np.float64]
    mistakes: NDArray[np.int64]
    labels: int
    images: int
    given: NDArray[np.int32]
    mean: MeanAnswers

    @property
    def experts(self) -> int:
        """E, including the source."""
        return len(self.by_estimates)

    def weigh(
        self,
        answers: Sequence[Probabilities | None],
        bases: Sequence[Basis],
        shift: Shift = UNKNOWN,
    ) -> tuple[Ledger, NDArray[np.int64]]:
        """Return the record after a batch, and the index of the chosen expert for each of N images.

        Args:
            answers: ``(N, K)`` probabilities of each expert, the source first; None if excluded.
            bases: the basis of each expert's estimate.
            shift: of the batch.
        """
        source = answers[0]
        assert source is not None
        rows: NDArray[np.bool_] = np.asarray(np.isfinite(source).all(1))
        estimated = [
            place
            for place, part in enumerate(answers)
            if part is not None and np.isfinite(part[rows]).all()
        ]
        updated = self._estimate(
            [answers[p] for p in estimated], [bases[p] for p in estimated], estimated, rows, shift
        )
        unlabeled = max(estimated, key=lambda place: float(updated.by_estimates[place]))
        classes = np.stack([_read_classes(part, len(source)) for part in answers])
        classes = np.concatenate([classes[[unlabeled]], classes])
        voters = np.zeros(1 + self.experts, dtype=bool)
        voters[[0, *(1 + place for place in estimated)]] = True
        chosen = weigh_votes(classes, np.where(voters, self.by_labels, 0.0))
        return updated._remember(classes), np.where(chosen == 0, unlabeled, chosen - 1)

    def _estimate(
        self,
        answers: Sequence[Probabilities | None],
        bases: Sequence[Basis],
        estimated: list[int],
        rows: NDArray[np.bool_],
        shift: Shift,
    ) -> Ledger:
        """Return the record with estimates of the experts ``estimated``, from the finite rows of a
        batch.
        """
        count = int(rows.sum())
        if not count:
            return self
        sound = [part[rows] for part in answers if part is not None]
        # Experts without an estimate are not compared; the source's rows fill their place.
        filled = [
            sound[estimated.index(p)] if p in estimated else sound[0] for p in range(self.experts)
        ]
        mean = self.mean.add(filled)
        estimates = np.ones(self.experts)
        estimates[estimated] = estimate_errors(
            sound, bases, mean.spread()[estimated], shift.select_rows(rows)
        )
        weights = follow_losses(
            self.by_estimates,
            count * estimates,
            make_expert_weights(self.experts),
            rate=ESTIMATE_RATE,
            share=ESTIMATE_SHARE,
        )
        return dataclasses.replace(self, by_estimates=weights, estimates=estimates, mean=mean)

    def _remember(self, classes: NDArray[np.int32]) -> Ledger:
        """Return the record with the predictions ``(1 + E, N)`` for a batch."""
        count = classes.shape[1]
        new = np.concatenate([classes.T, np.zeros((count, 1), np.int32)], axis=1)
        given = np.concatenate([self.given, new])[-LABEL_WINDOW:]
        return dataclasses.replace(self, given=given, images=self.images + count)

    def settle(self, index: int, label: int) -> Ledger:
        """Return the record with the label of one image.

        Args:
            index: index of the image since the last reset.
            label: its class.

        Raises:
            InputError: the image was not predicted, or too long ago, or already has a label.
        """
        place = self._find_image(index)
        losses = (self.given[place, :-1] != label).astype(np.float64)
        given = self.given.copy()
        given[place, -1] = 1
        weights = follow_losses(
            self.by_labels,
            losses,
            make_voter_weights(self.experts),
            rate=LABEL_RATE,
            share=LABEL_SHARE,
        )
        return dataclasses.replace(
            self,
            by_labels=weights,
            mistakes=self.mistakes + losses.astype(np.int64),
            labels=self.labels + 1,
            given=given,
        )

    def _find_image(self, index: int) -> int:
        if not 0 <= index < self.images:
            raise InputError(
                f"No image {index} has been seen: expected 0 to {self.images - 1}, the images since "
                "the last reset."
                if self.images
                else f"No image {index} has been seen: there was none since the last reset."
            )
        place = index - (self.images - len(self.given))
        if place < 0:
            raise InputError(
                f"Image {index} was seen too long ago: only the predictions for the last "
                f"{LABEL_WINDOW} images are kept."
            )
        if self.given[place, -1]:
            raise InputError(f"Image {index} has a label already.")
        return place

    # ------------------------------------------------------------ as tensors

    def pack(self) -> dict[str, torch.Tensor]:
        """Return the record as named tensors."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays["sums"] = self.mean.sums
        packed = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        packed["faded"] = torch.tensor(self.mean.images, dtype=torch.float64)
        packed["counts"] = torch.tensor([self.labels, self.images])
        return packed

    def unpack(self, state: Mapping[str, torch.Tensor]) -> Ledger:
        """Return the record from the tensors of ``pack``, for the same number of experts.

        Raises:
            InputError: the state is that of another router, or damaged.
        """
        if set(state) != {*_ARRAYS, "sums", "faded", "counts"}:
            raise InputError("The state is of another adapter: it is not a router's.")
        like = open_ledger(self.experts).pack()
        for name, tensor in state.items():
            grows = {"given": 0, "sums": 1}.get(name)
            _check_tensor(name, tensor, like[name], grows)
        labels, images = state["counts"].tolist()
        arrays = {name: state[name].detach().cpu().numpy().copy() for name in (*_ARRAYS, "sums")}
        faded = float(state["faded"])
        weights = [arrays["by_estimates"], arrays["by_labels"]]
        sound = (
            all(abs(part.sum() - 1) < 1e-6 and (part >= 0).all() for part in weights)
            and 0 <= labels <= images
            and len(arrays["given"]) == min(images, LABEL_WINDOW)
            and faded >= 0
            and (arrays["sums"] >= 0).all()
        )
        if not sound:
            raise InputError("The state is damaged: the router's numbers do not fit each other.")
        mean = MeanAnswers(arrays.pop("sums"), faded)
        return Ledger(**arrays, labels=labels, images=images, mean=mean)


_ARRAYS = ("by_estimates", "by_labels", "estimates", "mistakes", "given")


def open_ledger(experts: int) -> Ledger:
    """Return an empty record for so many experts."""
    return Ledger(
        by_estimates=make_expert_weights(experts),
        by_labels=make_voter_weights(experts),
        estimates=np.zeros(experts),
        mistakes=np.zeros(1 + experts, dtype=np.int64),
        labels=0,
        images=0,
        given=np.zeros((0, 2 + experts), dtype=np.int32),
        mean=MeanAnswers(np.zeros((experts, 0)), 0.0),
    )


def _read_classes(answers: Probabilities | None, count: int) -> NDArray[np.int32]:
    """Return ``(N,)`` the predicted classes, ``NO_PREDICTION`` where there is none."""
    if answers is None:
        return np.full(count, NO_PREDICTION, dtype=np.int32)
    finite = np.isfinite(answers).all(1)
    return np.where(finite, answers.argmax(1), NO_PREDICTION).astype(np.int32)


def _check_tensor(name: str, tensor: torch.Tensor, like: torch.Tensor, grows: int | None) -> None:
    """Raise an InputError unless a tensor is finite and has the shape of ``like``, except
    ``grows``.
    """
    shape = list(like.shape)
    if grows is not None and tensor.ndim == len(shape):
        shape[grows] = tensor.shape[grows]
    if list(tensor.shape) != shape or tensor.dtype != like.dtype:
        raise InputError(
            f"The state is of another router: {name!r} has the shape {tuple(tensor.shape)}, expected "
            f"{tuple(shape)}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"The state is damaged: {name!r} has NaN or infinite values.")
