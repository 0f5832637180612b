"""SimCLR with InfoNCE and AnInfoNCE: decoding augmentation parameters and class from the features.

The paper finds that features of AnInfoNCE hold more information about the augmentations, at the
cost of class accuracy. The same code runs on Fashion-MNIST and on CIFAR-10 or ImageNet from disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from shiftproof import Classes
from shiftproof.compute.progress import console
from shiftproof.contrastive import train
from shiftproof.data import ImageData, open_data
from shiftproof.errors import InputError, MissingExtraError
from shiftproof.io import fingerprint, make_folder
from shiftproof.metrics import Interval, bootstrap_mean, interval_over_seeds
from shiftproof.rng import generator
from shiftproof.runs import provenance
from shiftproof_reproduce import fashion
from shiftproof_reproduce.result import OVER_IMAGES, Finding, Result, Table, to_json
from shiftproof_reproduce.simclr_views import Augment, apply
from shiftproof_reproduce.verdicts import above, below, judge

if TYPE_CHECKING:
    import torch

PAPER = "Rusak et al. 2025"

INFONCE, ANISOTROPIC = "InfoNCE", "AnInfoNCE"

UNTRAINED = "a network without training"

OVER_TRAININGS = (
    "“yes” and “no” where the whole 95 % interval is to that side of the line, “undecided” where it "
    "is on both. Intervals are over trainings, each with another start, other batches and other test "
    "images, by Student's t; the losses are compared in pairs of the same seed."
)
"""Explanation of the intervals of several trainings."""

Pixels = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""From indices of images to ``(N, H, W, C)`` uint8, all of one size."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labeled images for training and for the linear read-outs."""

    name: str
    train: Pixels
    train_count: int
    test: Pixels
    test_labels: NDArray[np.int64]
    classes: int
    channels: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The size of the experiment.

    Args:
        scale: name of the scale.
        backbone: ``"small"`` for images of 28 pixels, or a torchvision ResNet.
        side: height and width of the views in pixels.
        temperature: temperature of InfoNCE, and the inverse of AnInfoNCE's initial precision.
        batch: images per step.
        embedding: dimensions of the projection's output.
        read: number of test images for the read-outs; half of them to fit, half to score.
        training: training settings of both losses.
        augment: the augmentations.
        seeds: random seeds, one for a training with each loss. The intervals of a single one are over
            its images, those of several are over trainings.
    """

    scale: str
    backbone: Literal["small", "resnet18", "resnet50"]
    side: int
    training: train.Training
    temperature: float = 0.2
    batch: int = 256
    embedding: int = 64
    read: int = 4000
    augment: Augment = dataclasses.field(default_factory=Augment)
    seeds: tuple[int, ...] = (0,)


def plan_fashion() -> Plan:
    """Return the plan for Fashion-MNIST on one core."""
    training = train.Training(
        steps=500, rate=2e-3, loss_rate=1e-2, warm_up=0.05, cool_down=0.9, check_every=100
    )
    # A training ends elsewhere with each seed, and even with each kind of processor: R² of single
    # parameters moves by up to 0.07, more than the intervals over the images of one training.
    return Plan(scale="small", backbone="small", side=28, training=training, seeds=(0, 1, 2, 3, 4))


def plan_paper(images: int, side: int) -> Plan:
    """Return the plan for a GPU: SimCLR's own settings for CIFAR-10, or for larger images."""
    large = side > 64
    batch = 1024 if large else 512
    epochs = 100 if large else 1000
    training = train.Training(
        steps=max(1, images * epochs // batch),
        optimizer="lars",
        rate=0.3 * batch / 256 if large else 1.0,
        loss_rate=1e-2,
        warm_up=0.1,
        cool_down=0.9,
        weight_decay=1e-6,
        check_every=max(1, images // batch),
    )
    return Plan(
        scale="paper",
        backbone="resnet50" if large else "resnet18",
        side=224 if large else side,
        training=training,
        temperature=0.1 if large else 0.5,
        batch=batch,
        embedding=128,
        read=10_000,
    )


def reproduce(
    out: Path,
    *,
    data: str | Path | None = None,
    plan: Plan | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train on Fashion-MNIST with both losses, and decode augmentations and class from the
    features.

    Arguments as for ``shiftproof_reproduce.reproduce``, and ``plan``: the size of the experiment.

    Raises:
        InputError: Fashion-MNIST is missing.
    """
    return run(
        read_fashion(data), out, plan or plan_fashion(), device="cpu", show_progress=show_progress
    )


def reproduce_paper(
    out: Path,
    *,
    data: str | Path | None,
    model: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Result:
    """Train on a folder of images with both losses, as in the paper, and decode both.

    Args:
        out: the folder of the trainings; an interrupted one resumes.
        data: folder with ``train`` and ``test`` (or ``val``), each with a folder per class; or with
            the idx files of Fashion-MNIST, on which a small network is trained.
        model: must be None: images of up to 64 pixels use a ResNet-18, larger ones a ResNet-50.
        device: device of the training.
        workers: threads that read images; None uses 8.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: the folders are missing, or ``model`` is given.
    """
    if model is not None:
        raise InputError(
            "aninfonce chooses its network by the size of the images; leave out --model."
        )
    if data is None:
        raise InputError(
            "The scale paper needs CIFAR-10 or ImageNet on disk: give a folder (--data) with train "
            "and test (or val), each with a folder per class. The scales small and medium need none."
        )
    if any(Path(data).glob("train-images-idx3-ubyte*")):
        return reproduce(out, data=data, show_progress=show_progress)
    images, side = read_folder(Path(data), workers or 8)
    plan = plan_paper(images.train_count, side)
    return run(images, out, plan, device=device, show_progress=show_progress)


def run(
    images: Images, out: Path, plan: Plan, *, device: str, show_progress: bool | None = None
) -> Result:
    """Train with both losses, and return what can be decoded from the features of each."""
    make_folder(out)
    kept: dict[str, list[ReadOut]] = {INFONCE: [], ANISOTROPIC: [], UNTRAINED: []}
    seconds: dict[str, float] = {}
    losses: dict[str, list[float]] = {INFONCE: [], ANISOTROPIC: []}
    for seed in plan.seeds:
        for name in losses:
            title = f"{name}, seed {seed}" if len(plan.seeds) > 1 else name
            if show_progress is not False:
                console.print(f"{images.name}: {title}")
            path = out / "runs" / f"simclr-{name.lower()}-{seed}.safetensors"
            trained = fit(
                images, plan, name, seed, path, device=device, show_progress=show_progress
            )
            kept[name].append(read_out(images, plan, seed, trained.encoder, device))
            seconds[title] = trained.seconds
            losses[name].append(trained.history[-1].loss)
        untrained = build_encoder(plan, images.channels, seed).to(device)
        kept[UNTRAINED].append(read_out(images, plan, seed, untrained, device))
    return Result(
        recipe="aninfonce",
        scale=plan.scale,
        title=f"What SimCLR keeps of augmentations and class: {images.name}",
        about=(
            f"A network ({plan.backbone}) is trained on views of {images.name} without labels, by "
            f"InfoNCE with 1/τ = {1 / plan.temperature:g} and by AnInfoNCE started there; "
            f"{plan.training.steps:,} steps of {plan.batch} images. Then the parameters of the "
            "augmentation and the class are read out of its features linearly, on views of test "
            f"images held out. {_count_trainings(plan)} with each loss."
        ),
        settings={
            "plan": to_json(plan),
            "data": {"name": images.name, "fingerprint": images.fingerprint},
            "losses": losses,
        },
        provenance=provenance(device, 0),
        tables=[compare_kept(kept)],
        findings=judge_trade_off(kept),
        seconds=seconds,
        intervals=OVER_IMAGES if len(plan.seeds) == 1 else OVER_TRAININGS,
    )


def _count_trainings(plan: Plan) -> str:
    return "One training" if len(plan.seeds) == 1 else f"{len(plan.seeds)} trainings"


# ---------------------------------------------------------------- training and reading out


@dataclass(frozen=True, eq=False)
class ReadOut:
    """Results of the read-out for each held-out image.

    ``explained`` ``(N, P)`` is 1 minus the squared error over the variance for each parameter,
    whose mean is R²; ``right`` ``(N,)`` is whether the predicted class is correct.
    """

    names: tuple[str, ...]
    explained: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """``(N,)``: the mean over the parameters."""
        mean: NDArray[np.float64] = self.explained.mean(1)
        return mean


def fit(
    images: Images,
    plan: Plan,
    name: str,
    seed: int,
    checkpoint: Path,
    *,
    device: str,
    show_progress: bool | None = None,
) -> train.Trained:
    """Train backbone and projection with one of the losses, or resume the training."""
    import torch

    from shiftproof.contrastive import AnInfoNCE

    loss = AnInfoNCE(
        plan.embedding, start=1 / plan.temperature, link="exp", learn=name == ANISOTROPIC
    )
    encoder = torch.nn.Sequential(
        *build_encoder(plan, images.channels, seed), *_build_projection(plan, seed)
    )

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = generator(seed, "simclr", str(step))
        pixels = _to_tensor(
            images.train(random.integers(0, images.train_count, plan.batch)), device
        )
        views = [
            apply(
                pixels,
                torch.tensor(plan.augment.draw(plan.batch, images.channels, random), device=device),
                side=plan.side,
            )
            for _ in range(2)
        ]
        return views[0], views[1]

    return train.train(
        encoder,
        loss,
        batches,
        plan.training,
        checkpoint=checkpoint,
        about={"plan": to_json(plan), "loss": name, "seed": seed, "data": images.fingerprint},
        device=device,
        title=name,
        show_progress=show_progress,
    )


def read_out(
    images: Images, plan: Plan, seed: int, encoder: torch.nn.Module, device: str
) -> ReadOut:
    """Decode augmentation parameters and class from the backbone's features of test images."""
    import torch

    random = generator(seed, "read out")
    count = min(plan.read, len(images.test_labels))
    chosen = random.permutation(len(images.test_labels))[:count]
    parameters = plan.augment.draw(count, images.channels, random)
    features = []
    backbone = torch.nn.Sequential(*list(encoder.children())[:BACKBONE]).eval()
    with torch.no_grad():
        for start in range(0, count, 250):
            part = slice(start, start + 250)
            pixels = _to_tensor(images.test(chosen[part]), device)
            views = apply(pixels, torch.tensor(parameters[part], device=device), side=plan.side)
            features.append(backbone(views).double().cpu().numpy())
    held = np.concatenate(features)
    half = count // 2
    left = parameters[half:] - fit_least_squares(held, parameters[:half].astype(np.float64))
    return ReadOut(
        Augment.names(images.channels),
        1 - left**2 / parameters[half:].var(0),
        _classify(held, images.test_labels[chosen], images.classes),
    )


def _classify(
    features: NDArray[np.float64], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return for each image of the second half whether a classifier fitted on the first is
    correct.
    """
    half = len(features) // 2
    scores = fit_least_squares(features, np.eye(classes)[labels[:half]])
    right: NDArray[np.float64] = (scores.argmax(1) == labels[half:]).astype(np.float64)
    return right


def fit_least_squares(
    features: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return predictions for the second half by ridge regression on the first half, whose target is
    given.
    """
    half = len(target)
    center, spread = features[:half].mean(0), features[:half].std(0) + 1e-6
    scaled = np.c_[(features - center) / spread, np.ones(len(features))]
    # Regularized, as there may be as many features as images.
    gram = scaled[:half].T @ scaled[:half] + 1.0 * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled[:half].T @ target)
    predicted: NDArray[np.float64] = scaled[half:] @ weights
    return predicted


def compare_kept(kept: Mapping[str, Sequence[ReadOut]]) -> Table:
    """Return class accuracy and R² of each parameter, by loss; the trainings of each are given."""
    names = next(iter(kept.values()))[0].names
    return Table(
        "kept",
        "What the features hold",
        "loss",
        ["class accuracy", "all parameters", *names],
        list(kept),
        [
            [
                average(values)
                for values in zip(
                    *((one.right, one.mean, *one.explained.T) for one in each), strict=True
                )
            ]
            for each in kept.values()
        ],
        unit="score",
        note="R² of each parameter of the augmentation, read out linearly; the mean over all of them.",
    )


def average(trainings: Sequence[NDArray[np.float64]]) -> Interval:
    """Return the mean of values of images, with its interval: over images for one training, over
    trainings for several.
    """
    if len(trainings) == 1:
        return bootstrap_mean(trainings[0])
    return interval_over_seeds([float(values.mean()) for values in trainings])


def judge_trade_off(kept: Mapping[str, Sequence[ReadOut]]) -> list[Finding]:
    """Judge the paper's trade-off by the results."""
    pairs = list(zip(kept[ANISOTROPIC], kept[INFONCE], strict=True))
    names = pairs[0][0].names
    return [
        judge(
            "augmentations",
            "AnInfoNCE keeps more of the augmentations' parameters than InfoNCE",
            PAPER,
            average([one.mean - other.mean for one, other in pairs]),
            f"R² {{}} more, the mean over {len(names)} parameters",
            holds=above,
            unit="score",
        ),
        judge(
            "class",
            "It pays with class accuracy",
            PAPER,
            average([one.right - other.right for one, other in pairs]),
            "accuracy {} points",
            holds=below,
        ),
    ]


# ---------------------------------------------------------------- images


def read_fashion(data: str | Path | None) -> Images:
    """Return Fashion-MNIST."""
    read = fashion.load(data)
    return Images(
        "Fashion-MNIST",
        lambda numbers: read.train_images[numbers, :, :, None],
        len(read.train_images),
        lambda numbers: read.test_images[numbers, :, :, None],
        read.test_labels.astype(np.int64),
        len(fashion.CLASSES),
        1,
        read.fingerprint(),
    )


def read_folder(folder: Path, threads: int) -> tuple[Images, int]:
    """Return the images of a folder, and the side they are resized to.

    Raises:
        InputError: ``train`` is missing, or both ``test`` and ``val`` are.
    """
    parts = [folder / "train", *(p for p in (folder / "test", folder / "val") if p.is_dir())][:2]
    if len(parts) < 2 or not parts[0].is_dir():
        raise InputError(
            f"{folder}: expected the folders train and test (or val), each with a folder per class."
        )
    classes = Classes(tuple(sorted(p.name for p in parts[0].iterdir() if p.is_dir())))
    training, test = (open_data(part, classes=classes, labeled=True) for part in parts)
    side = max(training.read(training.samples[0]).shape[:2])
    side = side if side <= 64 else 256
    labels = np.array([sample.label for sample in test.samples], np.int64)
    return Images(
        folder.name,
        _make_reader(training, side, threads),
        len(training),
        _make_reader(test, side, threads),
        labels,
        len(classes),
        3,
        fingerprint(sample.id.encode() for sample in (*training.samples, *test.samples)),
    ), side


def _make_reader(data: ImageData, side: int, threads: int) -> Pixels:
    import cv2

    def one(number: int) -> NDArray[np.uint8]:
        image = data.read(data.samples[number])
        if image.shape[:2] == (side, side):
            return image
        height, width = image.shape[:2]
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        square = image[top : top + short, left : left + short]
        resized = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, np.uint8)

    def read(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        with ThreadPoolExecutor(threads) as pool:
            return np.stack(list(pool.map(one, numbers.tolist())))

    return read


def _to_tensor(pixels: NDArray[np.uint8], device: str) -> torch.Tensor:
    import torch

    return torch.tensor(pixels, device=device).permute(0, 3, 1, 2).float() / 255


# ---------------------------------------------------------------- networks

BACKBONE = 1
"""Number of modules of an encoder before its projection."""


def build_encoder(plan: Plan, channels: int, seed: int) -> torch.nn.Sequential:
    """Return the backbone as the only module of a ``Sequential``, to which the projection is
    appended.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if plan.backbone == "small":
            return torch.nn.Sequential(_build_small_backbone(channels))
        try:
            import torchvision
        except ImportError as error:
            raise MissingExtraError.of("torchvision", "torch") from error
        network = getattr(torchvision.models, plan.backbone)(weights=None)
        network.fc = torch.nn.Identity()
        if plan.side <= 64:
            # As in SimCLR for CIFAR-10: no downsampling before the first block.
            network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
            network.maxpool = torch.nn.Identity()
        return torch.nn.Sequential(network)


def _build_small_backbone(channels: int) -> torch.nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for width, stride in ((24, 2), (48, 2), (96, 2)):
        layers += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    # No global pooling, because positions are decoded, too.
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 4 * 4, 128), nn.ReLU())


def _build_projection(plan: Plan, seed: int) -> list[torch.nn.Module]:
    import torch

    widths = {"small": 128, "resnet18": 512, "resnet50": 2048}
    width = widths[plan.backbone]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return [
            torch.nn.Linear(width, width),
            torch.nn.BatchNorm1d(width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, plan.embedding),
        ]
