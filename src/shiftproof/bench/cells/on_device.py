"""Corrupting batches on the model's device, overlapped with the model's previous batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, final

import numpy as np

from shiftproof.bench.cells.batching import Batch
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import CLEAN, Cell, Image, Logits, Sample, Settings

if TYPE_CHECKING:
    import torch

CorruptOn: TypeAlias = Literal["workers", "device"]
CORRUPT_ON_CHOICES: tuple[CorruptOn, ...] = ("workers", "device")


@final
class OnDevice:
    """A view whose workers return clean images, which are corrupted in batches on a device.

    On the processor the pixels are those of ``view``. On a GPU they depend on seed, corruption and the
    image's id, too, but are drawn by its own generator: the distribution is the same, the pixels are not.

    Args:
        view: reads and resizes.
        device: name of the torch device.

    Raises:
        InputError: a corruption that is a function, or one without a form for devices; or
            images that are to be saved as JPEG.
    """

    def __init__(self, view: OnTheFly, device: str) -> None:
        check_corruptions(view.corruptions)
        if view.encode != "none":
            raise InputError(
                "Images that are saved as JPEG come back to the processor each: leave out encode "
                "(--encode), or corrupt in the workers (--corrupt-on workers)."
            )
        self.view = view
        self.device = device

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the clean image to corrupt."""
        return self.view.load(sample, CLEAN)

    def settings(self) -> Settings:
        """Return the settings of the pixels, which depend on the device type but not its index."""
        return {**self.view.settings(), "corrupted on": self.device.partition(":")[0]}

    def gather(self, batch: Batch, samples: Sequence[Sample]) -> torch.Tensor | list[Image]:
        """Return the images of a batch, corrupted, as uint8 ``(N, 3, H, W)`` on the device.

        Raises:
            InputError: the images are of several sizes.
        """
        if not batch.images:
            return []
        images = send_images(batch.images, self.device)
        keys = [samples[row].id for row in batch.rows]
        for cell in dict.fromkeys(batch.cells):
            places = [place for place, other in enumerate(batch.cells) if other == cell]
            if not cell.is_clean:
                images = self._corrupt(images, cell, places, keys)
        return images

    def _corrupt(
        self, images: torch.Tensor, cell: Cell, places: list[int], keys: Sequence[str]
    ) -> torch.Tensor:
        from shiftproof.corruptions.torch import corrupt_tensor
        from shiftproof.corruptions.torch.filters import copy_to_device

        def corrupt(some: torch.Tensor, of: Sequence[str]) -> torch.Tensor:
            name = cast("str", self.view.corruptions[cell.corruption])
            return corrupt_tensor(some, name, severity=cell.severity, keys=of, seed=self.view.seed)

        if len(places) == len(images):
            return corrupt(images, keys)
        import torch

        index = copy_to_device(places, images.device, torch.int64)
        return images.index_copy(
            0, index, corrupt(images.index_select(0, index), [keys[place] for place in places])
        )


def check_corruptions(corruptions: Mapping[str, Any]) -> None:
    """Raise an InputError if a corruption has no device implementation."""
    from shiftproof.corruptions.torch.table import FUNCTIONS

    for name, corruption in corruptions.items():
        if not isinstance(corruption, str):
            raise InputError(
                f"{name} is a function of one image, which runs on the processor alone: corrupt in the "
                "workers (--corrupt-on workers)."
            )
        if corruption not in FUNCTIONS:
            raise UnknownNameError.of("corruption with a form for devices", corruption, FUNCTIONS)


def check_corrupt_on(place: str) -> None:
    """Raise an UnknownNameError unless images can be corrupted there."""
    if place not in CORRUPT_ON_CHOICES:
        raise UnknownNameError.of("corrupt_on", place, CORRUPT_ON_CHOICES)


def send_images(images: Sequence[Image], device: str) -> torch.Tensor:
    """Bring images ``(H, W, 3)`` of one size to a device, as uint8 ``(N, 3, H, W)``.

    One copy for all of them, from memory that the device reads by itself.

    Raises:
        InputError: they are of several sizes.
    """
    import torch

    if any(image.shape != images[0].shape for image in images):
        raise InputError(
            "Images are corrupted on the device by batches of one size, and this model takes them in "
            "several: corrupt in the workers (--corrupt-on workers)."
        )
    shape = (len(images), *images[0].shape)
    buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=device.startswith("cuda"))
    np.stack(images, out=buffer.numpy())
    return buffer.to(device, non_blocking=True).permute(0, 3, 1, 2).contiguous()


# ---------------------------------------------------------------- prefetching the next batch


def prefetch(
    batches: Generator[Batch, None, None],
    gather: Callable[[Batch], Any],
    device: str,
) -> Generator[tuple[Batch, Any], None, None]:
    """Yield batches with the result of ``gather``; the next is computed while one is used.

    On a GPU that is done on a stream of its own.
    """
    stream = _SideStream(device) if device.startswith("cuda") else None

    def gather_next() -> tuple[Batch, Any, Any] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        if stream is None:
            return batch, gather(batch), None
        return batch, *stream.run(lambda: gather(batch))

    with closing(batches), ThreadPoolExecutor(1, "gather") as pool:
        pending = pool.submit(gather_next)
        while (result := pending.result()) is not None:
            pending = pool.submit(gather_next)
            batch, images, event = result
            if stream is not None:
                stream.hand_over(images, event)
            yield batch, images


class _SideStream:
    """A CUDA stream on which batches are prepared in parallel to the main stream."""

    def __init__(self, device: str) -> None:
        import torch

        make_stream: Any = torch.cuda.Stream  # torch gives it no types
        self._stream = make_stream(device)

    def run(self, make: Callable[[], Any]) -> tuple[Any, torch.cuda.Event]:
        """Return the pending result and the event of its completion."""
        import torch

        with torch.cuda.stream(self._stream):
            result = make()
            return result, self._stream.record_event()

    def hand_over(self, images: Any, event: torch.cuda.Event) -> None:
        """Make the consuming stream wait for the images, and keep their memory."""
        import torch

        current = torch.cuda.current_stream(self._stream.device)
        current.wait_event(event)
        if isinstance(images, torch.Tensor):
            images.record_stream(current)


def gather_each(
    batches: Iterable[Batch], gather: Callable[[Batch], Any]
) -> Generator[tuple[Batch, Any], None, None]:
    """Yield batches with the result of ``gather``, sequentially."""
    for batch in batches:
        yield batch, gather(batch)


# ---------------------------------------------------------------- pending predictions


@final
class PendingLogits:
    """Logits in asynchronous transfer from the device; reading them waits."""

    def __init__(self, logits: torch.Tensor) -> None:
        import torch

        logits = logits.detach().float()
        self._event: Any = None
        if logits.device.type == "cuda":
            self._buffer = torch.empty(logits.shape, dtype=torch.float32, pin_memory=True)
            self._buffer.copy_(logits, non_blocking=True)
            stream: Any = torch.cuda.current_stream(logits.device)
            self._event = stream.record_event()
        else:
            self._buffer = logits.cpu()

    def read(self) -> Logits:
        """Wait, and return ``(N, K)`` float32."""
        if self._event is not None:
            self._event.synchronize()
        return cast("Logits", self._buffer.numpy())
