"""Network architectures: how to build them, the names of their weights, and their head."""

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
        """Return a network for a number of classes (None: the library's default) and channels."""


@dataclass(frozen=True)
class Architecture:
    """An architecture of a library, for loading weights from a file.

    Attributes:
        name: name in error messages.
        build: builds the untrained network.
        rename: from a weight's name in a file to the library's current name.
        convert: the library's converter of weights in other formats; None if it has none.
        optional: prefixes of weights that inference does not need: heads used only in training.
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
    """The names and shapes of an architecture's weights, without values.

    Attributes:
        shapes: shape by name, for ``classes`` classes.
        parameters: the names of the trainable weights.
        head: the names whose first axis is the number of classes.
        constants: buffers that the network computes itself, by name: those that are in no file, and
            integer ones.
    """

    shapes: Mapping[str, Shape]
    parameters: frozenset[str]
    head: tuple[str, ...]
    constants: Mapping[str, Shape] = field(default_factory=dict)

    def compute_shapes(self, classes: int | None) -> dict[str, Shape]:
        """Return the shapes with another number of classes."""
        return {
            name: (classes, *shape[1:]) if classes is not None and name in self.head else shape
            for name, shape in self.shapes.items()
        }


def build_skeleton(architecture: Architecture) -> Skeleton:
    """Return the names and shapes of an architecture's weights.

    The head is found by building the architecture for two numbers of classes, on the meta device
    where that works.
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
        # Some networks compute with their initial weights, which the meta device does not have.
        return architecture.build(classes, 3)
