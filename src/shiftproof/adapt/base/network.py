"""The private copy of a network that an adapter changes, for images and for tensors."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

from shiftproof.adapt.base.batches import explain_batch
from shiftproof.errors import ImageError, InputError, ModelError, ShiftproofError
from shiftproof.models.classifiers.classifier import Classifier, select_outputs
from shiftproof.models.preprocess import count_images
from shiftproof.models.structure import copy_structure, fingerprint_weights, is_torch_module
from shiftproof.types import Image, Images, Logits, Settings


class AdaptedNetwork:
    """A copy of the caller's network that can be changed.

    It is in evaluation mode. It has its own buffers; its parameters need no gradients and share
    their memory with the caller's, until ``own`` gives them their own: a large model is not in
    memory twice.

    ``predict`` and ``call`` do what those of ``Classifier`` do, with the adapter's ``step`` in
    place of the plain forward pass, one thread at a time. ``forward`` is the plain forward pass, to
    be used in a step. Other code that reads or changes the learned state must hold ``lock``.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module``.

    Attributes:
        module: the copy.
        lock: held while a batch is predicted; the same thread may take it again.

    Raises:
        ModelError: the graph is fixed (ONNX, TorchScript, compiled), or it cannot be copied.
    """

    def __init__(self, model: Classifier | torch.nn.Module) -> None:
        self._original = find_torch_module(model)
        # Tensors created in inference mode can never have gradients.
        with torch.inference_mode(False):
            copied = copy_structure(self._original, share="parameters")
            _detach_parameters(copied)
        _run_uncompiled(copied)
        self._classifier: Classifier | None = None
        self._runner: Classifier | None = None
        if isinstance(model, Classifier):
            self._classifier = model
            # Not a new one, which would copy the network once more.
            self._runner = copy.copy(model)
            self._runner.module = copied
        self.module = copied
        self.lock = threading.RLock()
        self._freezes = 0
        self._learns = {
            name: parameter.requires_grad for name, parameter in self._original.named_parameters()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Omit the lock and open contexts, which a copy does not share."""
        kept = {name: value for name, value in vars(self).items() if name != "lock"}
        return {**kept, "_freezes": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.lock = threading.RLock()

    def own(self, names: Sequence[str]) -> dict[str, torch.nn.Parameter]:
        """Give parameters their own memory, and let them record gradients.

        Raises:
            ModelError: the classifier computes in fp16, in which small gradients become 0.
        """
        if self._runner is not None and self._runner.dtype == "fp16":
            raise ModelError(
                f"{self._runner.name} computes in fp16, in which small gradients become 0, so that "
                "adapters cannot learn by them: take dtype='bf16' (--dtype bf16) or 'fp32'."
            )
        taken = {}
        known = dict(self.module.named_parameters())
        for name in names:
            parameter = known[name]
            with torch.inference_mode(False), torch.no_grad():
                parameter.data = parameter.detach().clone()
            parameter.requires_grad_(True)
            taken[name] = parameter
        return taken

    @property
    def classifier(self) -> Classifier:
        """The caller's classifier, or a ModelError for a plain module."""
        if self._classifier is None:
            raise ModelError(
                "This adapter is on a plain torch.nn.Module, which knows neither classes nor "
                "preprocessing. Wrap it first: Classifier(module, preprocess, classes)."
            )
        return self._classifier

    def settings(self) -> Settings:
        """Return the identity of the wrapped model, for an adapter's settings."""
        if self._classifier is not None:
            return {"classifier": self._classifier.settings}
        kind = type(self._original)
        return {
            "module": {
                "name": f"{kind.__module__}.{kind.__qualname__}",
                "fingerprint": fingerprint_weights(self._original),
            }
        }

    @property
    def is_frozen(self) -> bool:
        """Whether learning is off."""
        return self._freezes > 0

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Context without learning; contexts of several threads may overlap."""
        with self.lock:
            self._freezes += 1
        try:
            yield
        finally:
            with self.lock:
                self._freezes -= 1

    def predict(
        self,
        images: Images | Sequence[Image],
        step: Callable[[torch.Tensor], torch.Tensor],
    ) -> Logits:
        """Return the logits of ``step`` for a batch of images."""
        self.classifier  # noqa: B018  raises, and says why
        runner = cast("Classifier", self._runner)
        if count_images(images) == 0:
            return runner.predict(images)
        # Steps may need gradients, which tensors of inference mode cannot have.
        with self.lock, torch.inference_mode(False), torch.no_grad():
            logits = step(runner.prepare(images))
            return np.asarray(logits.detach().float().cpu().numpy())

    def call(
        self, batch: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return the result of ``step`` for a batch of tensors, without gradients.

        Raises:
            ImageError: the network does not take such a batch; says what it takes.
        """
        if self._runner is None and (not isinstance(batch, torch.Tensor) or batch.ndim == 0):
            raise InputError(
                f"Expected a tensor with the images along axis 0, got {type(batch).__name__}."
            )
        with self.lock, torch.inference_mode(False), torch.no_grad():
            if self._runner is None:
                inputs = batch.clone() if batch.is_inference() else batch.detach()
                return self._call_plain(inputs, step)
            if not isinstance(batch, torch.Tensor) or (batch.ndim and len(batch) == 0):
                # The classifier raises the error for other types.
                return self._runner(batch)
            return step(self._runner.prepare(batch)).detach()

    def _call_plain(
        self, inputs: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        try:
            return step(inputs) if len(inputs) else cast("torch.Tensor", self.module(inputs))
        except ShiftproofError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if (told := explain_batch(self.module, inputs)) is None:
                raise
            raise ImageError(told) from error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the copy on prepared inputs; gradients are recorded where they are enabled."""
        return self.select_classes(self.forward_all(inputs))

    def forward_all(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return all outputs of the network, including those of no class."""
        if self._runner is None:
            return cast("torch.Tensor", self.module(inputs))
        return self._runner.all_logits(inputs)

    def select_classes(self, outputs: torch.Tensor) -> torch.Tensor:
        """Select the outputs of the classifier's classes."""
        return outputs if self._runner is None else select_outputs(outputs, self._runner.outputs)

    def copy(self) -> torch.nn.Module:
        """Return a copy that shares no memory; its parameters require gradients as the caller's
        do.
        """
        module = copy_structure(self.module, share="nothing")
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self._learns.get(name, True))
        return module


def find_torch_module(model: Classifier | torch.nn.Module) -> torch.nn.Module:
    """Return the network inside ``model``, or raise a ModelError that says why it cannot adapt."""
    module: object = model.module if isinstance(model, Classifier) else model
    if not is_torch_module(module):
        if isinstance(model, Classifier):
            raise ModelError(
                f"{model.name} cannot be adapted: its graph is fixed, as in an ONNX file. "
                "Adapt the torch model that it was exported from, and export merge(); or write a "
                "graph that adapts by itself: shiftproof export."
            )
        raise ModelError(f"Expected a Classifier or a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "A TorchScript model cannot be adapted: its graph is fixed. "
            "Adapt the module that it was made of, and export merge() (torch.export)."
        )
    if type(module).__name__ == "OptimizedModule":
        raise ModelError(
            "A compiled model cannot be adapted: its graph is fixed. "
            "Adapt the module before torch.compile, and compile merge()."
        )
    return cast("torch.nn.Module", module)


def _run_uncompiled(module: torch.nn.Module) -> None:
    """Run compiled parts uncompiled: they may keep the hooks of their first run."""
    for part in module.modules():
        if type(part).__name__ == "OptimizedModule":
            # Without its own setattr, which would set the attribute of the wrapped part.
            vars(part)["forward"] = cast("Any", part)._orig_mod.__call__


def _detach_parameters(module: torch.nn.Module) -> None:
    """Replace each parameter by another object with the same memory that needs no gradient."""
    replaced: dict[int, Any] = {}
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in replaced:
                value = parameter.detach()
                # Tensors created in inference mode cannot take part in a gradient.
                value = value.clone() if value.is_inference() else value
                replaced[id(parameter)] = torch.nn.Parameter(value, requires_grad=False)
            part._parameters[name] = replaced[id(parameter)]


def describe_output(outputs: object) -> str:
    """Return a description of a model's output, for an error."""
    shape = getattr(outputs, "shape", None)
    return type(outputs).__name__ if shape is None else f"the shape {tuple(shape)}"
