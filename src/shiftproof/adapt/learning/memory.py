"""Memory banks of stream images, balanced over the predicted classes."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from shiftproof.adapt.base.tensors import copy_to_cpu, read_count
from shiftproof.errors import InputError
from shiftproof.rng import generator

if TYPE_CHECKING:
    from shiftproof.adapt.base.adapter import State


class Item(NamedTuple):
    """An image in a memory.

    ``image`` is prepared, ``(C, H, W)``; ``label`` is the predicted class; ``uncertainty`` the
    entropy of the prediction in nats; ``born`` the number of images offered before.
    """

    image: torch.Tensor
    label: int
    uncertainty: float
    born: int


@dataclass(frozen=True)
class TimelyMemory:
    """RoTTA's memory bank: balanced over classes, with the latest and most confident images of
    each.

    Category-balanced sampling with timeliness and uncertainty (Yuan et al. 2023, arXiv 2303.13899).
    It is a value: ``add`` returns another memory.

    Attributes:
        capacity: N, the maximum number of images.
        timeliness: weight of an image's age in the eviction score.
        uncertainty: weight of its entropy.
        items: the images, in order of arrival.
        offered: number of offered images.
    """

    capacity: int
    timeliness: float = 1.0
    uncertainty: float = 1.0
    items: tuple[Item, ...] = ()
    offered: int = 0

    def add(
        self, image: torch.Tensor, label: int, uncertainty: float, classes: int
    ) -> TimelyMemory:
        """Return the memory after one more image was offered.

        For a class with its full share of the capacity, one of its images is evicted; in a full
        memory, one of the largest classes: the one with the highest score, if it is above the new
        image's. All ages grow by one.

        Args:
            image: ``(C, H, W)``.
            label: the predicted class.
            uncertainty: the entropy of the prediction.
            classes: K, the number of classes.
        """
        newcomer = Item(image, label, uncertainty, self.offered)
        kept = self._make_room(newcomer, classes)
        items = self.items if kept is None else (*kept, newcomer)
        return TimelyMemory(
            self.capacity, self.timeliness, self.uncertainty, items, self.offered + 1
        )

    def _make_room(self, newcomer: Item, classes: int) -> tuple[Item, ...] | None:
        """Return the remaining items after an eviction; None if the new item is rejected."""
        counts = collections.Counter(item.label for item in self.items)
        if counts[newcomer.label] >= self.capacity / classes:
            candidates = {newcomer.label}
        elif len(self.items) < self.capacity:
            return self.items
        else:
            candidates = _find_largest(counts)
        # Ties are resolved as in the published code: by class, then the last item.
        places = [place for place, item in enumerate(self.items) if item.label in candidates]
        places.sort(key=lambda place: self.items[place].label)
        if not places:
            return self.items
        scores = [self.score(self.items[place], classes) for place in places]
        worst = max(range(len(places)), key=lambda index: (scores[index], index))
        if scores[worst] <= self.score(newcomer, classes):
            return None
        return self.items[: places[worst]] + self.items[places[worst] + 1 :]

    def score(self, item: Item, classes: int) -> float:
        """Return the eviction score of an image, larger for old and uncertain ones.

        ``lambda_t / (1 + exp(-age / N)) + lambda_u entropy / log K``.
        """
        age = self.offered - item.born
        # One class leaves no uncertainty.
        share = item.uncertainty / math.log(classes) if classes > 1 else 0.0
        recency = 1 / (1 + math.exp(-age / self.capacity))
        return self.timeliness * recency + self.uncertainty * share

    def ages(self) -> list[float]:
        """Return the age of each item, as a share of the capacity."""
        return [(self.offered - item.born) / self.capacity for item in self.items]


@dataclass(frozen=True)
class ReservoirMemory:
    """NOTE's memory bank: balanced over classes, uniform over time within each class.

    Prediction-balanced reservoir sampling (Gong et al. 2022, arXiv 2208.05117, algorithm 1). It is
    a value: ``add`` returns another memory. What is drawn is a function of the seed and of how many
    images were offered before.

    Attributes:
        capacity: N, the maximum number of images.
        seed: random seed of the sampling.
        items: the images, in order of arrival.
        counts: number of offered images by label.
        offered: number of offered images.
    """

    capacity: int
    seed: int = 0
    items: tuple[Item, ...] = ()
    counts: Mapping[int, int] = field(default_factory=dict)
    offered: int = 0

    def add(self, image: torch.Tensor, label: int) -> ReservoirMemory:
        """Return the memory after one more image ``(C, H, W)`` of a class was offered.

        From a full memory a random image of one of the largest classes is evicted; if the new
        image's class is among them, one of this class, with the probability ``held / offered`` of
        reservoir sampling.
        """
        counts = {**self.counts, label: self.counts.get(label, 0) + 1}
        kept = self._make_room(label, counts[label])
        items = self.items
        if kept is not None:
            items = (*kept, Item(image, label, 0.0, self.offered))
        return ReservoirMemory(self.capacity, self.seed, items, counts, self.offered + 1)

    def _make_room(self, label: int, offered: int) -> tuple[Item, ...] | None:
        """Return the remaining items after an eviction; None if the new item is rejected."""
        if len(self.items) < self.capacity:
            return self.items
        held = collections.Counter(item.label for item in self.items)
        largest = sorted(_find_largest(held))
        rng = generator(self.seed, "note", "memory", str(self.offered))
        chosen = label if label in largest else largest[int(rng.integers(len(largest)))]
        if chosen == label and rng.random() > held[label] / offered:
            return None
        places = [place for place, item in enumerate(self.items) if item.label == chosen]
        place = places[int(rng.integers(len(places)))]
        return self.items[:place] + self.items[place + 1 :]


def _find_largest(counts: Mapping[int, int]) -> set[int]:
    """Return the labels with the most items."""
    most = max(counts.values())
    return {label for label, count in counts.items() if count == most}


# ---------------------------------------------------------------- as named tensors

ITEM_NAMES = {f"memory/{name}" for name in ("images", "labels", "uncertainties", "born")}
"""The names of the tensors of ``pack_items``."""


def pack_items(items: Sequence[Item]) -> State:
    """Return the items of a memory as named tensors; empty without items."""
    if not items:
        return {}
    return {
        "memory/images": copy_to_cpu(torch.stack([item.image for item in items])),
        "memory/labels": torch.tensor([item.label for item in items]),
        "memory/uncertainties": torch.tensor([i.uncertainty for i in items], dtype=torch.float64),
        "memory/born": torch.tensor([item.born for item in items]),
    }


def read_items(
    state: Mapping[str, torch.Tensor], capacity: int, offered: int, device: str | torch.device
) -> tuple[Item, ...]:
    """Read the items from tensors of ``pack_items``.

    Raises:
        InputError: a tensor is missing, or they are inconsistent or invalid.
    """
    if not ITEM_NAMES & set(state):
        return ()
    missing = sorted(ITEM_NAMES - set(state))
    if missing:
        raise InputError(f"The state is damaged: it has no {missing[0]!r}.")
    images, labels, uncertainties, born = (
        state[f"memory/{name}"] for name in ("images", "labels", "uncertainties", "born")
    )
    _check_items(images, labels, uncertainties, born, capacity, offered)
    moved = images.to(device, copy=True)
    values = zip(labels.tolist(), uncertainties.tolist(), born.tolist(), strict=True)
    return tuple(Item(image, *rest) for image, rest in zip(moved, values, strict=True))


def _check_items(
    images: torch.Tensor,
    labels: torch.Tensor,
    uncertainties: torch.Tensor,
    born: torch.Tensor,
    capacity: int,
    offered: int,
) -> None:
    count = len(images) if images.ndim else 0
    whole = not (labels.is_floating_point() or born.is_floating_point())
    shapes = {tuple(part.shape) for part in (labels, uncertainties, born)}
    if images.ndim != 4 or shapes != {(count,)} or not 1 <= count <= capacity:
        raise InputError(
            f"The state is of another adapter: expected a memory of at most {capacity} images "
            f"(M, C, H, W), got the shape {tuple(images.shape)}."
        )
    finite = bool(torch.isfinite(images).all() and torch.isfinite(uncertainties).all())
    if not whole or not images.is_floating_point() or not finite:
        raise InputError(
            "The state is damaged: its memory holds values that are no image or no class."
        )
    if int(labels.min()) < 0 or int(born.min()) < 0 or int(born.max()) >= offered:
        raise InputError("The state is damaged: its memory holds a class or an age below 0.")


def pack_counts(counts: Mapping[int, int]) -> State:
    """Return the number of offered images of each class as a named tensor; empty before the first."""
    if not counts:
        return {}
    return {"memory/counts": torch.tensor([counts.get(i, 0) for i in range(max(counts) + 1)])}


def read_counts(state: Mapping[str, torch.Tensor], offered: int) -> dict[int, int]:
    """Read the counts from a tensor of ``pack_counts``.

    Raises:
        InputError: the counts are invalid, or their sum is not the number of offered images.
    """
    counts = state.get("memory/counts", torch.zeros(0, dtype=torch.int64))
    if counts.is_floating_point() or counts.ndim != 1 or int(counts.sum()) != offered:
        raise InputError(f"The state is damaged: its counts do not add up to {offered} images.")
    if len(counts) and int(counts.min()) < 0:
        raise InputError("The state is damaged: a class was seen less than 0 times.")
    return {label: count for label, count in enumerate(counts.tolist()) if count}


def read_offered(state: Mapping[str, torch.Tensor]) -> int:
    """Return the number of images offered to a memory."""
    return read_count(state, "memory/offered")
