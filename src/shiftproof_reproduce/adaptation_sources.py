"""The data and the trained networks of the comparison of adaptation methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shiftproof import Classes, Classifier
from shiftproof.data import ImageArrays
from shiftproof.errors import RunError
from shiftproof.io import fingerprint
from shiftproof.rng import generator
from shiftproof.types import Images
from shiftproof_reproduce import fashion, glyphs, norm_networks, stand_in
from shiftproof_reproduce.network import predict_classes
from shiftproof_reproduce.result import to_json
from shiftproof_reproduce.training import Checkpoint, run_epochs

if TYPE_CHECKING:
    import torch

DataName: TypeAlias = Literal["fashion", "glyphs"]
NetName: TypeAlias = Literal["resnet", "groupnorm", "vit", "clip"]

DATA_TITLES: dict[DataName, str] = {
    "fashion": f"Fashion-MNIST, {len(fashion.CLASSES)} classes",
    "glyphs": f"glyphs, {len(glyphs.CLASSES)} classes",
}
NET_TITLES: dict[NetName, str] = {
    "resnet": norm_networks.TITLES["resnet"],
    "groupnorm": norm_networks.TITLES["groupnorm"],
    "vit": norm_networks.TITLES["vit"],
    "clip": stand_in.TITLE,
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training settings: AdamW on the cross-entropy.

    The learning rate rises to ``peak_rate`` (of transformers ``transformer_rate``) over the first
    ``warm_up`` of all steps and falls to 0. Each batch is shifted by up to two pixels. Trains on
    ``train`` images of Fashion-MNIST, or on ``per_class`` glyphs per class.
    """

    epochs: int = 12
    batch_size: int = 64
    peak_rate: float = 3e-3
    transformer_rate: float = 1e-3
    warm_up: float = 0.2
    weight_decay: float = 0.05
    train: int = 14_000
    per_class: int = 50
    seed: int = 0

    def choose_rate(self, net: NetName) -> Training:
        """Return the settings with a network's rate as ``peak_rate``."""
        is_transformer = net in ("vit", "clip")
        return replace(self, peak_rate=self.transformer_rate) if is_transformer else self


@dataclass(frozen=True, eq=False)
class Source:
    """Images ``(N, 32, 32, 3)`` uint8 to train on and to test with, and their labels ``(N,)``."""

    name: DataName
    classes: Classes
    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any pixel or label."""
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return fingerprint(array.tobytes() for array in arrays)

    def draw_test(self, count: int) -> ImageArrays:
        """Return ``count`` random test images."""
        order = generator(0, "test subset").permutation(len(self.test_images))[:count]
        return ImageArrays(
            list(self.test_images[order]),
            self.test_labels[order],
            self.classes,
            ids=[f"test-{index:05}" for index in order],
            name=f"{self.name} test",
        )


def open_source(name: DataName, folder: str | Path | None, training: Training) -> Source:
    """Read Fashion-MNIST, with two black pixels around each image, or render the glyphs.

    ``folder`` is that of Fashion-MNIST; None uses that of the Debian package.

    Raises:
        InputError: Fashion-MNIST or fonts are missing.
    """
    if name == "glyphs":
        made = glyphs.load(training.per_class, 4)
        arrays = made.train_images, made.train_labels, made.test_images, made.test_labels
        return Source(name, glyphs.CLASSES, arrays[0], arrays[1], arrays[2], arrays[3])
    read = fashion.load(folder)
    chosen = generator(training.seed, "training images").permutation(len(read.train_images))
    chosen = chosen[: training.train]
    return Source(
        name,
        fashion.CLASSES,
        _to_color(read.train_images[chosen]),
        read.train_labels[chosen].astype(np.int64),
        _to_color(read.test_images),
        read.test_labels.astype(np.int64),
    )


def _to_color(gray: NDArray[np.uint8]) -> Images:
    margin = (norm_networks.SIDE - fashion.SIDE) // 2
    padded = np.pad(gray, ((0, 0), (margin, margin), (margin, margin)))
    return np.repeat(padded[..., None], 3, axis=3)


def open_network(
    net: NetName,
    source: Source,
    folder: Path,
    training: Training,
    *,
    good_enough: float,
    show_progress: bool | None = None,
) -> tuple[Classifier, float]:
    """Train a network, or load a trained one, and return it with its clean error.

    ``folder`` has its weights and checkpoints; ``good_enough`` is the upper limit of the clean
    error.

    Raises:
        RunError: the clean error is too high.
        MissingExtraError: "clip" without open_clip.
    """
    classifier = _train(net, source, folder, training, show_progress=show_progress)
    wrong = predict_classes(classifier, source.test_images) != source.test_labels
    error = float(wrong.mean())
    if error >= good_enough:
        raise RunError(
            f"{NET_TITLES[net]} is wrong on {100 * error:.1f} % of the clean test images of "
            f"{source.name}; expected less than {100 * good_enough:g} %. Remove {folder} to train it "
            "anew."
        )
    return classifier, error


def _train(
    net: NetName, source: Source, folder: Path, training: Training, *, show_progress: bool | None
) -> Classifier:
    import torch

    training = training.choose_rate(net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network: torch.nn.Module = (
            stand_in.build_towers(folder)
            if net == "clip"
            else norm_networks.build_network(net, len(source.classes))
        )
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=training.peak_rate, weight_decay=training.weight_decay
    )

    def measure_losses(epoch: int) -> Iterator[torch.Tensor]:
        batches = draw_batches(source, training, epoch)
        if net == "clip":
            yield from stand_in.measure_losses(
                network, batches, source.classes, folder, seed=training.seed, epoch=epoch
            )
            return
        for inputs, targets in batches:
            yield torch.nn.functional.cross_entropy(network(inputs), targets)

    about = {"net": net, "training": to_json(training), "data": source.fingerprint()}
    trained = run_epochs(
        network,
        optimizer,
        measure_losses,
        training,
        steps=len(source.train_images) // training.batch_size,
        checkpoint=Checkpoint(folder / "network.pt", about),
        title=f"{NET_TITLES[net]}, {source.name}",
        show_progress=show_progress,
    )
    if net == "clip":
        stand_in.save_towers(trained, folder)
        return stand_in.open_classifier(folder, source.classes)
    return norm_networks.wrap_classifier(net, trained, source.classes)


def draw_batches(
    source: Source, training: Training, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and labels; order and shifts depend only on seed and epoch."""
    import torch

    random = generator(training.seed, "batches", str(epoch))
    order = random.permutation(len(source.train_images))
    for start in range(0, len(order) - training.batch_size + 1, training.batch_size):
        chosen = order[start : start + training.batch_size]
        down, right = random.integers(-2, 3, 2)
        batch = np.roll(source.train_images[chosen], (down, right), (1, 2))
        values = norm_networks.PREPROCESS.normalize(batch)
        inputs = torch.from_numpy(values).contiguous(memory_format=torch.channels_last)
        yield inputs, torch.from_numpy(source.train_labels[chosen])
