"""Warnings about adapter settings that are known to be harmful or ineffective."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeGuard

from shiftproof.adapt.base.events import FEW_CLASSES

FEW_IMAGES = 16
"""Batch size below which batch statistics alone are worse than the source's on clean images.

Measured by ``benchmarks/batch_sizes.py``; the tables stand in ``docs/adaptation.md``.
"""

HALF_SPACING = 2.0**-24
"""Half the machine epsilon of float32: smaller relative steps are lost in rounding."""

_ORDERS = {
    "sorted": "sorted by label",
    "dirichlet": "in bursts of one class (Dirichlet)",
}
"""Stream orders with few classes per batch, and their descriptions."""


class EventLike(Protocol):
    """An event of an adapter, or one read from a run's folder."""

    @property
    def kind(self) -> str:
        """The kind of event."""

    @property
    def count(self) -> int:
        """The number of events that it represents."""


def list_cautions(settings: Mapping[str, Any], *, batch_size: int, order: str) -> list[str]:
    """Return known problems of an adapter in a stream, one sentence each.

    Args:
        settings: the adapter's, as a run records them; unknown adapters have no cautions.
        batch_size: n, the images in a batch.
        order: of the images in the stream: ``"shuffled"``, ``"sorted"`` or ``"dirichlet"``.

    >>> list_cautions({"adapter": "batchnorm", "prior": 16}, batch_size=4, order="shuffled")
    []
    """
    is_guarded = False
    inner: Any = settings
    while isinstance(inner, Mapping) and isinstance(inner.get("inner"), Mapping):
        is_guarded = is_guarded or inner.get("adapter") == "guard"
        inner = inner["inner"]
    experts = inner.get("experts") if isinstance(inner, Mapping) else None
    if isinstance(experts, Mapping):
        # A router chooses per batch, so harmful experts are no problem, but ineffective ones are.
        return [
            warning for expert in experts.values() for warning in _doubt_steps(_find_inner(expert))
        ]
    found = list(_doubt_steps(inner))
    # A guard uses the source if the statistics do harm.
    if is_guarded:
        return found
    return [*_doubt_statistics(inner, batch_size, order), *_doubt_answers(inner, order), *found]


def describe_few_classes(events: Iterable[EventLike]) -> str | None:
    """Describe the number of batches that seem to have few classes; None without any.

    >>> from shiftproof.adapt.base.events import Event
    >>> describe_few_classes([Event("few classes", 3, "why", count=12), Event("skipped", 4, "why")])
    '12 batches seem to hold few classes: their statistics were not used, and no step was taken.'
    """
    count = sum(event.count for event in events if event.kind == FEW_CLASSES)
    if not count:
        return None
    batches, whose = (
        ("1 batch seems", "its") if count == 1 else (f"{count:,} batches seem", "their")
    )
    return (
        f"{batches} to hold few classes: {whose} statistics were not used, and no step was taken."
    )


def _find_inner(settings: Any) -> Mapping[str, Any]:
    """Return the settings of the innermost adapter."""
    while isinstance(settings, Mapping) and isinstance(settings.get("inner"), Mapping):
        settings = settings["inner"]
    return settings if isinstance(settings, Mapping) else {}


def _doubt_statistics(settings: Mapping[str, Any], count: int, order: str) -> Iterator[str]:
    prior = settings.get("prior")
    if prior in (None, "inf") or settings.get("adapted") == 0 or settings.get("over") == "set":
        return
    if prior == 0 and count < FEW_IMAGES and settings.get("over", "batch") == "batch":
        yield (
            f"prior=0 normalizes by batches of {_count_images(count)} alone, which does harm below "
            f"{FEW_IMAGES}, on clean images too. Take prior=auto, or larger batches."
        )
    if order in _ORDERS and not _checks_classes(settings):
        yield (
            f"The images come {_ORDERS[order]}, and statistics of few classes are mistaken for a "
            "shift. Take prior=auto, guard+ before the adapter, or lame."
        )


def _checks_classes(settings: Mapping[str, Any]) -> bool:
    """Whether an adapter uses the source's statistics for batches of few classes."""
    adapter = settings.get("adapter")
    is_moving = adapter == "batchnorm" and settings.get("momentum") is not None
    return settings.get("prior") == "auto" and adapter != "dense" and not is_moving


def _doubt_answers(settings: Mapping[str, Any], order: str) -> Iterator[str]:
    """Warn about published settings of methods that only change predictions."""
    method, preset = settings.get("adapter"), settings.get("preset")
    if method == "lame" and preset == "paper" and order not in _ORDERS:
        yield (
            "LAME assigns classes by neighbors, which does harm where classes are mixed, on clean images "
            "too. Leave preset=paper out: then only batches of few classes are assigned."
        )
    if method == "t3a" and preset == "paper" and order in _ORDERS:
        yield (
            f"The images come {_ORDERS[order]}, and prototypes of few classes answer the others wrong. "
            "Leave preset=paper out: then they answer only where the network is unsure."
        )


def _doubt_steps(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings.get("loss") == "soft":
        yield (
            "soft learns nothing here: its teacher begins as the model itself, and then its gradient "
            "is zero. Take rpl or ent."
        )
        return
    lr, momentum = settings.get("lr"), settings.get("momentum")
    if not _is_number(lr):
        return
    reach = lr / (1 - momentum) if _is_number(momentum) and momentum < 1 else lr
    if reach < HALF_SPACING:
        yield (
            f"A learning rate of {lr:g} moves nothing: steps on gradients of up to 1 are lost in the "
            "rounding of float32. Take lr=auto."
        )


def _count_images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
