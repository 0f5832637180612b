"""What the small recipes share: a network trained here, its test images, and runs that go on."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from shiftproof import bench
from shiftproof.compute.progress import console
from shiftproof.corruptions import CorruptionFunction, scale
from shiftproof.errors import BrokenFileError, RunError
from shiftproof.io import files
from shiftproof.io.text import read_json
from shiftproof.models import Classifier
from shiftproof.provenance import provenance
from shiftproof.types import Settings
from shiftproof_reproduce import fashion
from shiftproof_reproduce.fashion import FashionMNIST
from shiftproof_reproduce.measured import Measured
from shiftproof_reproduce.network import as_classifier
from shiftproof_reproduce.result import Finding, Result, Table
from shiftproof_reproduce.training import Training, train

SCALE = "published"
"""The constants of the corruptions: those for photographs, though the images have 28 pixels.

Those for images of 32 pixels, CIFAR-10-C's, hardly touch images without background: a network with
a clean error of 9 % is wrong on 27 % over the 15 corruptions, and on 9 to 16 % at every severity of
the hold-out ones, which could then choose nothing. With the published constants it is wrong on
50 %, and on 9 to 88 %.
"""

SECONDS = "seconds.json"
"""The CPU seconds that each part took, kept over several starts."""

GOOD_ENOUGH = 0.08
"""Clean error above which a network says little about networks that work."""


@dataclass(eq=False)
class Bench:
    """A trained network, and where its runs go. Made by :func:`prepare`."""

    out: Path
    data: FashionMNIST
    classifier: Classifier
    training: Training
    clean_error: float
    show_progress: bool | None
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self,
        name: str,
        adapters: Mapping[str, str],
        *,
        images: int,
        corruptions: Sequence[str],
        severities: Sequence[int],
        batch_size: int,
        protocol: str = "online",
        labels: Sequence[int] | None = None,
    ) -> Measured:
        """Measure the source and ``adapters`` in the folder ``name``, or go on with what is there.

        Args:
            name: the part of the recipe, which names its folder.
            adapters: name to spec.
            images: test images; those of a smaller run are among those of a larger one.
            corruptions: names.
            severities: of 1 to 5.
            batch_size: n.
            protocol: what ``parse_protocol`` takes.
            labels: show images of these classes alone.
        """
        functions = scale(SCALE)
        chosen: dict[str, CorruptionFunction] = {name: functions[name] for name in corruptions}
        if self.show_progress is not False:
            console.print(f"{name}  [dim]{len(chosen)} corruptions, {len(adapters) + 1} models[/]")
        with _timed(self.seconds, name, self.out):
            run = bench.run(
                self.classifier,
                self.data.test_subset(images, labels=labels),
                corruptions=chosen,
                severities=severities,
                adapters=adapters,
                out=self.out / "runs" / name,
                batch_size=batch_size,
                protocol=protocol,
                # At 28 pixels an image is corrupted faster than a worker process is asked for it.
                workers=0,
                show_progress=self.show_progress,
            )
        return Measured(run)

    @property
    def settings(self) -> Settings:
        """What all runs share, as JSON takes it."""
        return {
            "data": {
                "name": "Fashion-MNIST",
                "fingerprint": self.data.fingerprint(),
                "train": len(self.data.train_images),
                "test": len(self.data.test_images),
            },
            "network": {
                "training": self.training.settings,
                "fingerprint": self.classifier.settings["fingerprint"],
                "clean_error": self.clean_error,
            },
            "corruptions": SCALE,
        }

    @property
    def provenance(self) -> Settings:
        """Machine and software."""
        return provenance("cpu", 0)


def prepare(
    out: Path,
    data: str | Path | None,
    training: Training,
    *,
    good_enough: float = GOOD_ENOUGH,
    show_progress: bool | None = None,
) -> Bench:
    """Read the data, train the network or take the one that is there, and check that it is good.

    Args:
        out: the folder of the recipe.
        data: the folder of Fashion-MNIST; None looks where Debian puts it.
        training: how the network is trained.
        good_enough: the clean error that the network must be below.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: there is no Fashion-MNIST.
        RunError: the network's clean error is not below ``good_enough``.
    """
    read = fashion.load(data)
    files.make_folder(out)
    seconds = _seconds(out / SECONDS)
    checkpoint = out / "network.safetensors"
    if show_progress is not False:
        console.print(f"training  [dim]{len(read.train_images):,} images[/]")
    with _timed(seconds, "training", out):
        network = train(
            read.train_images, read.train_labels, checkpoint, training, show_progress=show_progress
        )
    classifier = as_classifier(network)
    clean_error = _clean_error(classifier, read)
    if clean_error >= good_enough:
        raise RunError(
            f"The network is wrong on {100 * clean_error:.1f} % of the clean test images; expected "
            f"less than {100 * good_enough:g} %. Remove {checkpoint} to train it anew."
        )
    return Bench(out, read, classifier, training, clean_error, show_progress, seconds)


class SmallPlan(Protocol):
    """What the plans of the small recipes have in common; each is a dataclass."""

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions that are measured."""


def small_result(
    bench: Bench,
    plan: SmallPlan,
    *,
    recipe: str,
    title: str,
    about: str,
    tables: list[Table],
    findings: list[Finding],
    settings: Settings | None = None,
) -> Result:
    """Return the result of a small recipe.

    Args:
        bench: the network and its runs.
        plan: how much was measured; recorded, but for the training, which ``bench`` records.
        recipe: the recipe's name.
        title: the page's.
        about: what was done with the network, in sentences that follow those on the network.
        tables: what was measured.
        findings: what it says.
        settings: more that decides the numbers.
    """
    network = (
        "A ResNet with batch norm is trained from scratch on Fashion-MNIST (clean error "
        f"{100 * bench.clean_error:.1f} % on the {len(bench.data.test_images):,} test images) and "
        f"shown the {len(plan.corruptions)} corruptions, with the constants published for "
        "photographs."
    )
    planned = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(cast("Any", plan)).items()
        if name != "training"
    }
    return Result(
        recipe=recipe,
        scale="small",
        title=title,
        about=f"{network} {about}",
        settings={**bench.settings, "plan": planned, **(settings or {})},
        provenance=bench.provenance,
        tables=tables,
        findings=findings,
        seconds=bench.seconds,
    )


@contextlib.contextmanager
def _timed(seconds: dict[str, float], part: str, out: Path) -> Iterator[None]:
    """Add to the CPU seconds of a part, over all starts of the recipe."""
    begun = time.process_time()
    try:
        yield
    finally:
        seconds[part] = round(seconds.get(part, 0.0) + time.process_time() - begun, 1)
        files.write_json(out / SECONDS, seconds)


def _seconds(path: Path) -> dict[str, float]:
    try:
        return {str(part): float(spent) for part, spent in read_json(path).items()}
    except (BrokenFileError, AttributeError, TypeError, ValueError):
        return {}


def _clean_error(classifier: Classifier, data: FashionMNIST) -> float:
    wrong = 0
    for start in range(0, len(data.test_images), 500):
        grey = data.test_images[start : start + 500]
        logits = classifier.predict(np.repeat(grey[..., None], 3, axis=3))
        wrong += int((logits.argmax(1) != data.test_labels[start : start + 500]).sum())
    return wrong / len(data.test_images)
