"""A network to be: what its weights are called, which of them are its head, and how it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


class Build(Protocol):
    """Builds an untrained network."""

    def __call__(self, classes: int | None, channels: int) -> torch.nn.Module:
        """Return it with so many classes (None: as many as the library says) and input channels."""


@dataclass(frozen=True)
class Architecture:
    """An architecture of a library, as far as weights from a file go.

    Attributes:
        name: what errors call it.
        build: builds it.
        rename: from a name in a file to the library's of today.
        convert: the library's own reading of weights in another form; None where it has none.
        optional: beginnings of names that the network runs without: heads of the training alone.
    """

    name: str
    build: Build
    rename: Callable[[str], str] = str
    convert: (
        Callable[[dict[str, torch.Tensor], torch.nn.Module], dict[str, torch.Tensor]] | None
    ) = None
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skeleton:
    """The weights of an architecture without their values.

    Attributes:
        shapes: by name, for ``classes`` classes.
        parameters: the names of what is trained.
        head: the names whose first axis is the number of classes.
        constants: the buffers that are in no file, by name, and whole numbers among the others,
            which a network counts or computes by itself.
    """

    shapes: Mapping[str, Shape]
    parameters: frozenset[str]
    head: tuple[str, ...]
    constants: Mapping[str, Shape] = field(default_factory=dict)

    def shapes_for(self, classes: int | None) -> dict[str, Shape]:
        """Return the shapes with another number of classes."""
        return {
            name: (classes, *shape[1:]) if classes is not None and name in self.head else shape
            for name, shape in self.shapes.items()
        }


def skeleton_of(architecture: Architecture) -> Skeleton:
    """Find out what the weights of an architecture are.

    The head is what grows with the number of classes: the architecture is built for two numbers,
    without memory where that works.
    """
    import torch

    two, three = (_build_empty(architecture, count) for count in (2, 3))
    others = {name: tuple(value.shape) for name, value in three.state_dict().items()}
    values = {
        name: value for name, value in two.state_dict().items() if isinstance(value, torch.Tensor)
    }
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    parameters = frozenset(name for name, _ in two.named_parameters(remove_duplicate=False))
    constants = {
        name: tuple(value.shape)
        for name, value in two.named_buffers(remove_duplicate=False)
        if name not in values or not value.is_floating_point()
    }
    head = tuple(name for name, shape in shapes.items() if others.get(name) != shape)
    return Skeleton(shapes, parameters, head, constants)


def _build_empty(architecture: Architecture, classes: int) -> torch.nn.Module:
    import torch

    try:
        with torch.device("meta"):
            return architecture.build(classes, 3)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        # Some networks compute with their first weights, which the meta device has not.
        return architecture.build(classes, 3)
