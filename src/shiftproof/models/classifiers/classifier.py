"""A network with its preprocessing and its classes: images in, logits out."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, final, overload

import numpy as np

from shiftproof.classes import Classes, LabelSet, check_outputs, name_classes, number_classes
from shiftproof.counts import pluralize
from shiftproof.errors import ImageError, LabelError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.models.dtypes import DTYPES, Dtype, autocast
from shiftproof.models.module import (
    HeldModule,
    ModelLike,
    check_size,
    describe_classes,
    make_black_image,
    make_black_image_error,
)
from shiftproof.models.outputs import LOGITS, describe_output, find_tensor
from shiftproof.models.preprocess import (
    ModelInput,
    Preprocess,
    Preprocessing,
    check_preprocess,
    count_images,
    to_batch,
)
from shiftproof.models.structure import get_input_dtype
from shiftproof.types import Image, Images, Logits, Settings

if TYPE_CHECKING:
    import torch

    from shiftproof.models.image_text.class_vectors import ClassVectors


class ClassifierLike(ModelLike, Protocol):
    """The interface that benchmarks need: ``Classifier`` itself, and every adapter."""

    @property
    def preprocess(self) -> Preprocessing:
        """The preprocessing of its images."""

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Return ``(N, K)`` float32 logits of images processed by ``preprocess.geometry``."""

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return ``(N, K)`` logits of a ``(N, 3, H, W)`` tensor, uint8 0..255 or floating 0..1."""


@final
class Classifier(HeldModule):
    """A network with its preprocessing and its classes.

    The network runs in evaluation mode and without gradients, independent of your module's mode;
    your module is never modified. On the same device its parameters and buffers are shared, so
    later training takes effect; on another device a copy is used.

    Args:
        module: a ``torch.nn.Module`` from ``(N, C, H, W)`` floats to ``(N, K)`` logits; or any
            function from a float32 array of that shape to a float32 array of logits (an ONNX
            Runtime session, say), which needs no torch. A function may carry ``fingerprint``
            (a string that names its weights) and ``device``, which are recorded. Logits may come
            in a mapping, a dataclass or a tuple, by the rule of ``shiftproof.models.outputs``; the
            ``class_vectors`` of a zero-shot network are recorded.
        preprocess: the preprocessing of images for the module.
        classes: the classes of the outputs: ``Classes``, or a list of names in the order of the
            outputs. None numbers the outputs; their count is found with a black image.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
        name: name in the tables; None is the module's class name.
        outputs: for each class the index of its output, or several indices, whose largest logit
            counts. None means one output per class, in the order of the classes. ``restrict`` sets
            this for a published dataset.
        assumed: the assumptions made when it was loaded, as sentences.
        dtype: precision of the network's matrix products: ``"fp32"`` is that of its weights,
            ``"bf16"`` and ``"fp16"`` use torch's autocast. Logits are always float32.

    Attributes:
        module: the network that runs: a copy of your module in evaluation mode, on ``device``.
        device: its device (never ``"auto"``).

    Raises:
        UnknownNameError: no such dtype.
        ModelError: the module cannot be called or copied, the device does not exist, the dtype of a
            function is not fp32, the output is not ``(N, K)`` with one column per class, a timm
            model has no head, or ``outputs`` is not one non-empty group per class without
            repetition.

    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    >>> classifier = Classifier(network, Preprocess((8, 8), 8), ["cat", "dog"])
    >>> classifier.predict(np.zeros((5, 8, 8, 3), np.uint8)).shape
    (5, 2)
    """

    preprocess: Preprocessing
    classes: Classes
    outputs: tuple[tuple[int, ...], ...] | None
    dtype: Dtype

    def __init__(
        self,
        module: torch.nn.Module | Callable[[ModelInput], Logits],
        preprocess: Preprocessing,
        classes: Classes | Iterable[str] | None = None,
        *,
        device: str = "cpu",
        name: str | None = None,
        outputs: Sequence[int | Sequence[int]] | None = None,
        assumed: Sequence[str] = (),
        dtype: Dtype = "fp32",
    ) -> None:
        super().__init__(
            module,
            classes,
            device=device,
            name=name,
            assumed=assumed,
            expected="Expected a torch.nn.Module or a function from float32 (N, C, H, W) to logits, "
            "got {}. A checkpoint file is read by load_classifier('file:PATH?arch=...').",
        )
        if self._torch:
            _check_head(module, self.name)
        check_preprocess(preprocess)
        self.preprocess = preprocess
        self.dtype = _check_dtype(dtype, self.name, self._torch)
        self.outputs = None if outputs is None else _read_groups(outputs, self.name)
        if classes is None:
            self.classes = number_classes(
                self._probe() if self.outputs is None else len(self.outputs)
            )
        else:
            self.classes = classes if isinstance(classes, Classes) else name_classes(classes)
        if self.outputs is not None and len(self.outputs) != len(self.classes):
            raise ModelError(
                f"{self.name}: outputs are given for {pluralize(len(self.outputs), 'class')}, but "
                f"{len(self.classes)} are named. Give one output, or one group of them, per class."
            )

    def __repr__(self) -> str:
        return f"Classifier({self.name}, {len(self.classes)} classes, {self.device})"

    @property
    def settings(self) -> Settings:
        """The settings that reproduce this classifier, for JSON."""
        vectors = self.class_vectors
        return {
            **self._list_settings(),
            "classes": describe_classes(self.classes),
            "outputs": None if self.outputs is None else _describe_outputs(self.outputs),
            "preprocess": self.preprocess.settings(),
            # Runs without a dtype, from earlier versions, were in fp32.
            **({} if self.dtype == "fp32" else {"dtype": self.dtype}),
            **({} if vectors is None else {"prompts": vectors.settings()}),
        }

    @property
    def class_vectors(self) -> ClassVectors | None:
        """The class vectors of a zero-shot classifier with their sentences, else None."""
        return getattr(self.module, "class_vectors", None)

    def restrict(self, labels: LabelSet) -> Classifier:
        """Return this classifier restricted to a dataset's subset of its classes.

        It predicts only those classes, and shares parameters and buffers with this classifier.

        Raises:
            ModelError: the label set is not a subset of this classifier's classes.

        >>> from shiftproof.classes import imagenet, label_set
        >>> network = lambda inputs: np.zeros((len(inputs), 1000), np.float32)
        >>> classifier = Classifier(network, Preprocess((8, 8), 8), imagenet(), name="zeros")
        >>> classifier.restrict(label_set("imagenet-r"))
        Classifier(zeros, 200 classes, cpu)
        """
        if self.classes.title != labels.model_classes.title or len(self.classes) != len(
            labels.model_classes
        ):
            raise ModelError(
                f"{self.name}: {labels.title} is a subset of the classes of "
                f"{labels.model_classes.title}, but "
                f"this model's are {self.classes.title} ({len(self.classes)}). If they are the same, "
                "give them when the model is wrapped or loaded: classes=imagenet()."
            )
        outputs = labels.outputs
        if self.outputs is not None:
            own = self.outputs
            outputs = tuple(tuple(i for place in group for i in own[place]) for group in outputs)
        return self._change(labels.classes, outputs, self.dtype)

    def with_dtype(self, dtype: Dtype) -> Classifier:
        """Return this classifier in another precision; it shares parameters and buffers.

        Raises:
            UnknownNameError: no such dtype.
            ModelError: the module is a function, whose precision is fixed.
        """
        return self._change(self.classes, self.outputs, dtype)

    def _change(
        self, classes: Classes, outputs: Sequence[Sequence[int]] | None, dtype: Dtype
    ) -> Classifier:
        return Classifier(
            self.module,
            self.preprocess,
            classes,
            device=self.device,
            name=self.name,
            outputs=outputs,
            assumed=self.assumed,
            dtype=dtype,
        )

    def predict(self, images: Images | Sequence[Image]) -> Logits:
        """Return the logits of a batch of images.

        Args:
            images: ``(N, H, W, 3)`` uint8 RGB in 0..255, each processed by ``preprocess.geometry``;
                if that keeps the images' sizes, also a sequence of ``(H, W, 3)``. Not modified.

        Returns:
            ``(N, K)`` float32, unnormalized log-probabilities.

        Raises:
            ImageError: another shape, size or dtype.
            ModelError: the module's output is not ``(N, K)``, one column per class.
        """
        if count_images(images) == 0:
            return np.zeros((0, len(self.classes)), np.float32)
        fitted = check_size(images, self.preprocess)
        if not self._torch:
            return self._run_function(self.preprocess.normalize(fitted))
        import torch

        with torch.inference_mode():
            logits = self.logits(_normalize_images(fitted, self.preprocess, self.device))
            return cast("Logits", logits.float().cpu().numpy())

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of image tensors.

        Args:
            batch: ``(N, 3, H, W)`` RGB, on any device; the dtype states the range: uint8 is 0..255,
                floating is 0..1. Images of another size than ``preprocess.size`` are resized and
                cropped by ``preprocess.geometry``; as that is defined on 8-bit images, floating
                values are then rounded to 8 bits. Normalization is done here.

        Returns:
            ``(N, K)`` floating, on the classifier's device, without gradients.

        Raises:
            ImageError: another shape, dtype or range.
            ModelError: the module's output is not ``(N, K)``, one column per class.
        """
        import torch

        _check_tensor(batch)
        if len(batch) == 0:
            return torch.zeros((0, len(self.classes)), device=self.device)
        with torch.no_grad():
            inputs = _model_input(batch, self.preprocess, self.device)
            if not self._torch:
                return torch.from_numpy(self._run_function(inputs.cpu().contiguous().numpy()))
            return self.logits(inputs)

    def prepare(self, batch: Images | Sequence[Image] | torch.Tensor) -> torch.Tensor:
        """Return the network's input for a batch of images: the first half of a prediction.

        Args:
            batch: as for ``predict``, or a tensor as for a call; at least one image.

        Returns:
            ``(N, C, H, W)`` float32 in channels_last on the classifier's device, normalized.

        Raises:
            ImageError: another shape, size, dtype or range.
        """
        import torch

        with torch.no_grad():
            if isinstance(batch, torch.Tensor):
                _check_tensor(batch)
                return _model_input(batch, self.preprocess, self.device)
            count_images(batch)
            fitted = check_size(batch, self.preprocess)
            return _normalize_images(fitted, self.preprocess, self.device)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the network on the output of ``prepare``: the second half of a prediction.

        Gradients are recorded if the caller has them enabled. The module must be a torch module.

        Returns:
            ``(N, K)`` floating, on the classifier's device.

        Raises:
            ModelError: the module's output is not ``(N, K)``, one column per class.
        """
        return select_outputs(self.all_logits(inputs), self.outputs)

    def all_logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits like ``logits``, but of all outputs of the network, also those of no class.

        ``select_outputs(all_logits, outputs)`` gives those of the classes.

        Raises:
            ModelError: the module's output is not ``(N, K)`` with a column for each class.
        """
        module = cast("torch.nn.Module", self.module)
        with autocast(self.device, self.dtype):
            output = self._find_logits(module(inputs.to(get_input_dtype(module))))
        self._check_logits(tuple(output.shape), len(inputs))
        return cast("torch.Tensor", output if self.dtype == "fp32" else output.float())

    def _find_logits(self, output: Any) -> Any:
        """Return the logits in the module's output; see ``shiftproof.models.outputs``."""
        found = find_tensor(output, LOGITS)
        if found is None:
            raise ModelError(
                f"{self.name}: expected logits as one tensor, or under the name logits, got "
                f"{describe_output(output)}. Wrap the model in a module that returns the logits "
                "alone."
            )
        return found

    def _run_function(self, inputs: ModelInput) -> Logits:
        result = np.asarray(self._find_logits(self.module(inputs)))
        self._check_logits(result.shape, len(inputs))
        return select_outputs(result.astype(np.float32, copy=False), self.outputs)

    def _check_logits(self, shape: tuple[int, ...], count: int) -> None:
        """Raise a ModelError unless ``shape`` is that of ``count`` logits of the network."""
        if len(shape) != 2 or shape[0] != count:
            expected = len(self.classes) if self.outputs is None else "outputs"
            raise ModelError(
                f"{self.name}: expected logits ({count}, {expected}), got shape {shape}."
            )
        if self.outputs is not None:
            highest = max(max(group) for group in self.outputs)
            if shape[1] <= highest:
                raise ModelError(
                    f"{self.name}: the model gives {pluralize(shape[1], 'output')}, but output {highest} is "
                    f"listed; expected outputs of 0 to {shape[1] - 1}."
                )
        elif shape[1] != len(self.classes):
            raise ModelError(
                f"{self.name}: the model gives {pluralize(shape[1], 'output')}, but "
                f"{pluralize(len(self.classes), 'class')} "
                "are named. Give one class name per output."
            )

    def _probe(self) -> int:
        """Return the number of outputs for one black image."""
        black = make_black_image(self.preprocess)
        try:
            if self._torch:
                import torch

                module = cast("torch.nn.Module", self.module)
                with torch.inference_mode():
                    inputs = _normalize_images(black, self.preprocess, self.device)
                    output = self._find_logits(module(inputs.to(get_input_dtype(module))))
            else:
                output = self._find_logits(self.module(self.preprocess.normalize(black)))
        except ModelError:
            raise
        except Exception as error:
            raise make_black_image_error(black, self.name, error) from error
        shape = tuple(getattr(output, "shape", ()))
        if len(shape) != 2:
            got = f"shape {shape}" if shape else type(output).__name__
            raise ModelError(f"{self.name}: expected logits (N, K), got {got}.")
        return int(shape[1])


def _check_head(module: object, name: str) -> None:
    """Raise a ModelError if a timm architecture was built without a head.

    ``num_classes`` is not sufficient: it stays 0 if a head is added later.
    """
    if getattr(module, "num_classes", None) != 0 or not hasattr(module, "get_classifier"):
        return
    import torch

    head = module.get_classifier()
    parts = head if isinstance(head, tuple) else (head,)
    layers = [layer for part in parts for layer in part.modules()]
    if not any(isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) for layer in layers):
        raise ModelError(
            f"{name} is no classifier: it has no head (num_classes=0), its outputs are features. "
            "Build it with the number of its classes, or wrap it as an Encoder."
        )


@overload
def select_outputs(logits: Logits, outputs: Sequence[Sequence[int]] | None) -> Logits: ...
@overload
def select_outputs(
    logits: torch.Tensor, outputs: Sequence[Sequence[int]] | None
) -> torch.Tensor: ...
def select_outputs(
    logits: Logits | torch.Tensor, outputs: Sequence[Sequence[int]] | None
) -> Logits | torch.Tensor:
    """Return one logit per class: the largest of its group of outputs.

    The predicted class is then that of the largest output in any group. Tensors are differentiable;
    equal outputs in a group share the gradient evenly.

    Args:
        logits: ``(N, M)`` floating, an array or a tensor; not changed.
        outputs: for each of K classes the indices of its outputs; None for one output per class.

    Returns:
        ``(N, K)`` of the same kind, dtype and device; ``logits`` itself where ``outputs`` is None.

    >>> select_outputs(np.array([[3.0, 1.0, 2.0]], np.float32), [[2], [0, 1]])
    array([[2., 3.]], dtype=float32)
    """
    if outputs is None:
        return logits
    listed = logits[:, [output for group in outputs for output in group]]
    if all(len(group) == 1 for group in outputs):
        return listed
    # The group of each listed output, so that one operation serves all groups.
    places = np.repeat(np.arange(len(outputs)), [len(group) for group in outputs])
    if isinstance(listed, np.ndarray):
        best: Logits = np.maximum.reduceat(listed, np.unique(places, return_index=True)[1], axis=1)
        return best
    import torch

    index = torch.from_numpy(places).to(listed.device).expand(len(listed), -1)
    # Minus infinity: amax shares the gradient with an equal initial value, even if that is
    # excluded.
    empty = listed.new_full((len(listed), len(outputs)), -torch.inf)
    return empty.scatter_reduce(1, index, listed, "amax")


def _read_groups(outputs: Sequence[int | Sequence[int]], name: str) -> tuple[tuple[int, ...], ...]:
    try:
        groups = tuple(
            (operator.index(group),)
            if isinstance(group, (int, np.integer))
            else tuple(operator.index(output) for output in group)
            for group in outputs
        )
    except TypeError as error:
        raise ModelError(
            f"{name}: outputs: expected an index or several for each class, got {outputs!r:.80}."
        ) from error
    try:
        check_outputs(groups, None, f"{name}: outputs")
    except LabelError as error:
        raise ModelError(str(error)) from error
    return groups


def _describe_outputs(outputs: tuple[tuple[int, ...], ...]) -> Settings:
    parts = (" ".join(str(output) for output in group).encode() for group in outputs)
    return {
        "count": sum(len(group) for group in outputs),
        "fingerprint": files.fingerprint(parts),
    }


def _normalize_images(
    images: Images | Sequence[Image], preprocess: Preprocessing, device: str
) -> torch.Tensor:
    """Return the result of ``preprocess.normalize`` as a channels_last tensor on ``device``.

    For a ``Preprocess`` this is computed on the device; on the CPU bit for bit the same.
    """
    import torch

    if not isinstance(preprocess, Preprocess):
        tensor = torch.from_numpy(preprocess.normalize(images)).to(device)
        return tensor.contiguous(memory_format=torch.channels_last)
    batch = np.ascontiguousarray(to_batch(images))
    if not batch.flags.writeable:
        # torch warns about read-only arrays.
        batch = batch.copy()
    # (N, H, W, 3) viewed as (N, 3, H, W) is channels_last in memory.
    pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2)
    return _normalize_pixels(pixels, preprocess)


def _model_input(batch: torch.Tensor, preprocess: Preprocessing, device: str) -> torch.Tensor:
    """Apply ``preprocess`` to a checked ``(N, 3, H, W)`` batch."""
    import torch

    batch = batch.detach()
    if isinstance(preprocess, Preprocess) and tuple(batch.shape[2:]) == preprocess.size:
        return _normalize_pixels(batch.to(device), preprocess)
    pixels = batch if batch.dtype == torch.uint8 else (batch.float() * 255).round().byte()
    images = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    fitted = [preprocess.geometry(image) for image in images]
    return _normalize_images(fitted, preprocess, device)


def _normalize_pixels(pixels: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Normalize ``(N, 3, H, W)``, uint8 0..255 or floating 0..1, to float32 in channels_last."""
    import torch

    integral = pixels.dtype == torch.uint8
    if preprocess.channels == 1:
        pixels = _to_luminosity(pixels)
    values = torch.empty(
        pixels.shape,
        dtype=torch.float32,
        device=pixels.device,
        memory_format=torch.channels_last,
    ).copy_(pixels)
    if integral:
        values.div_(255)
    # In the order of torchvision's ToTensor and Normalize, so that the bits are the same.
    mean, std = _scale_on(preprocess.mean, preprocess.std, pixels.device)
    return values.sub_(mean).div_(std)


@functools.lru_cache(maxsize=64)
def _scale_on(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation ``(C, 1, 1)`` on the device; cached: a transfer synchronizes."""
    import torch

    # Tensors made in inference mode cannot be part of an autograd graph.
    with torch.inference_mode(False):
        first, second = (
            torch.tensor(each, dtype=torch.float32, device=device)[:, None, None]
            for each in (mean, std)
        )
    return first, second


def _to_luminosity(pixels: torch.Tensor) -> torch.Tensor:
    """Return ``(N, 1, H, W)``; for uint8 the same values as ``preprocess.to_luminosity``."""
    import torch

    if pixels.dtype == torch.uint8:
        red, green, blue = pixels.int().unbind(1)
        gray = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    else:
        red, green, blue = pixels.unbind(1)
        gray = 0.299 * red + 0.587 * green + 0.114 * blue
    return gray[:, None]


def _check_dtype(dtype: Dtype, name: str, on_torch: bool) -> Dtype:
    if dtype not in DTYPES:
        raise UnknownNameError.of("dtype", dtype, DTYPES)
    if dtype != "fp32" and not on_torch:
        raise ModelError(
            f"{name}: dtype={dtype!r} needs a torch module; the precision of other models is "
            "fixed. Leave it out, or export an ONNX graph in that precision."
        )
    return dtype


def _check_tensor(batch: torch.Tensor) -> None:
    import torch

    if not isinstance(batch, torch.Tensor):
        raise ImageError(
            f"Expected a torch tensor (N, 3, H, W), got {type(batch).__name__}. "
            "For numpy arrays (N, H, W, 3) use predict."
        )
    shape = tuple(batch.shape)
    if batch.ndim != 4 or shape[1] != 3 or 0 in shape[2:]:
        advice = ""
        if batch.ndim == 3:
            advice = " Add the batch dimension: batch[None]."
        elif batch.ndim == 4 and shape[3] == 3:
            advice = " The channels come second here: batch.permute(0, 3, 1, 2)."
        raise ImageError(f"Expected a batch (N, 3, H, W), RGB, got shape {shape}.{advice}")
    if batch.dtype == torch.uint8:
        return
    if not batch.is_floating_point():
        raise ImageError(
            f"Expected uint8 in 0..255 or floating in 0..1, got {batch.dtype}. Convert it first."
        )
    # Rounding errors of the caller are tolerated; the comparison is false for NaN.
    if not bool(((batch >= -1e-3) & (batch <= 1 + 1e-3)).all()):
        if bool(batch.isnan().any()):
            raise ImageError("Expected floating values in 0..1, got NaN.")
        low, high = float(batch.min()), float(batch.max())
        raise ImageError(
            "Expected floating values in 0..1 (the classifier normalizes itself), "
            f"got {low:.4g} to {high:.4g}. Pass uint8 for 0..255, or clip."
        )
