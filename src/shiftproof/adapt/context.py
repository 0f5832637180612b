"""Adapting a model within a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.adapt.table import make_adapter
from shiftproof.models.classifiers.classifier import Classifier

if TYPE_CHECKING:
    import torch


@contextmanager
def adapting(
    model: Classifier | torch.nn.Module,
    adapter: str | Callable[[Classifier | torch.nn.Module], Adapter] = "batchnorm",
) -> Iterator[Adapter]:
    """Adapt a model within a ``with`` block; the adapter is reset at its end.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    >>> with adapting(net, "batchnorm:prior=0") as adapted:
    ...     outputs = adapted(torch.rand(8, 3, 16, 16))

    Args:
        model: a ``Classifier``, or a plain ``torch.nn.Module``; never changed.
        adapter: a spec for ``make_adapter``, or an adapter class or function that is called with
            the model.

    Raises:
        UnknownNameError, InputError, ModelError: as ``make_adapter``.
    """
    adapted = make_adapter(adapter, model) if isinstance(adapter, str) else adapter(model)
    try:
        yield adapted
    finally:
        adapted.reset()
