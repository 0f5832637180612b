"""What each default of adaptation does at batches of 1 to 1,024: against the source, with intervals.

python benchmarks/batch_sizes.py --out benchmarks/results/batch_sizes.json

Two networks: the demo's EfficientNet-Lite0 on its 20 photographs, and a small ResNet that is trained
here on Fashion-MNIST (``--data``; Debian's package dataset-fashion-mnist). Streams: mixed; sorted by
label; one class alone; three classes; classes in bursts; of the photographs, crops of one after another.
Each figure is the paired difference to the source, in points of error, over
the same images, with a bootstrap interval of 95 %. Interrupted, it goes on where it was. What takes least
time comes first, and ``--minutes`` of CPU time end it: so a short start fills as much as it can.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import output
import torch
from numpy.typing import NDArray

from shiftproof import Classifier, load_classifier
from shiftproof.adapt import ADAPTERS, make_adapter
from shiftproof.bench import OnTheFly
from shiftproof.bench.cells.stream import order_in_bursts
from shiftproof.corruptions import scale
from shiftproof.data import open_data
from shiftproof.metrics import bootstrap_mean
from shiftproof.provenance import provenance
from shiftproof.rng import generator
from shiftproof.types import Cell
from shiftproof_reproduce import fashion
from shiftproof_reproduce.network import wrap_classifier
from shiftproof_reproduce.training import Training, train

NETWORKS = ("resnet", "efficientnet")
CORRUPTIONS = ("gaussian_noise", "contrast")
SEVERITY = 3
ZERO_SHOT = ("tda", "zero", "tpt", "clipartt")
"""Adapters that are made for models of images and texts, which neither network is."""

SPECS = (
    *(name for name, entry in ADAPTERS.items() if not entry.wraps and name not in ZERO_SHOT),
    *("guard+batchnorm", "guard+rpl"),
    *("batchnorm:prior=0", "batchnorm:prior=16", "batchnorm:prior=layerwise"),
    *("batchnorm:prior=measured", "rpl:preset=paper", "lame:preset=paper", "t3a:preset=paper"),
    *("cotta:prior=0", "note:k=4"),
)
"""Every default, the guard, and what the defaults were chosen against."""

PASSES = {"memo": 60, "cotta": 40, "cotta:prior=0": 40, "note": 12, "rotta": 8, "router": 6}
"""About how many forward passes an image costs, for the order alone; 3 where nothing is said."""

ALONE = ("memo", "note", "note:k=4")
"""Adapters that answer each image by itself, so that the size of the batches says nothing."""

CROPS, PHOTOGRAPHS = 16, 6
"""Random crops of each photograph, and of how many, in the stream of one after another."""

MIXED, OF_A_CLASS = 1024, 256
"""Images of Fashion-MNIST in a mixed stream, and in one of few classes."""


@dataclass(frozen=True)
class Stream:
    """Images in an order, and their labels."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with its streams by name, each of a condition, and the sizes of batches.

    ``sizes`` are those of mixed streams, ``few`` those of the others, of which corrupted ones are
    shown in the last. ``cost`` is that of a forward pass, in those of the small ResNet.
    """

    name: str
    classifier: Classifier
    streams: dict[tuple[str, str], Stream]
    sizes: tuple[int, ...]
    few: tuple[int, ...]
    cost: int = 1


@dataclass(frozen=True, eq=False)
class Job:
    """One figure: an adapter on a stream of a condition, in batches of one size."""

    subject: Subject
    spec: str
    stream: str
    condition: str
    size: int

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What tells the figure from others, in the order of KEYS."""
        return self.subject.name, self.spec, self.stream, self.condition, self.size

    @property
    def shown(self) -> Stream:
        """The images."""
        return self.subject.streams[self.stream, self.condition]

    @property
    def images(self) -> int:
        """How many are shown: single ones take long."""
        if self.spec == "memo":
            return min(64 // self.subject.cost or 4, len(self.shown.labels))
        wanted = {1: 128, 4: 256, 1024: 1024}.get(self.size, 512)
        return min(wanted, len(self.shown.labels))

    @property
    def cost(self) -> int:
        """About how long it takes."""
        return self.images * self.subject.cost * PASSES.get(self.spec, 3)


KEYS = ("network", "adapter", "stream", "condition", "n")


def make_photographs() -> Subject:
    """The demo's network and photographs."""
    classifier = load_classifier("demo")
    assert isinstance(classifier, Classifier)
    data = open_data("demo", classes=classifier.classes)
    view = OnTheFly(
        data, classifier.preprocess.geometry, {name: name for name in CORRUPTIONS}, seed=0
    )
    labels = np.array([sample.label for sample in data.samples])
    order = np.random.default_rng(0).permutation(len(labels))
    streams = {}
    for condition in ("clean", "gaussian_noise"):
        cell = Cell("clean", 0) if condition == "clean" else Cell(condition, SEVERITY)
        images = np.stack([view.load(sample, cell) for sample in data.samples])
        streams["mixed", condition] = Stream(images[order], labels[order])
    streams["sorted", "clean"] = _crop_each(data, classifier)
    return Subject(
        "efficientnet-lite0, 20 photographs", classifier, streams, (10, 2, 20), (16,), cost=20
    )


def _crop_each(data: Any, classifier: Classifier) -> Stream:
    """Random crops, some of them mirrored, of one photograph after another."""
    rng = np.random.default_rng(1)
    images, labels = [], []
    for sample in data.samples[:: len(data.samples) // PHOTOGRAPHS][:PHOTOGRAPHS]:
        whole = data.read(sample)
        for _ in range(CROPS):
            side = int(rng.uniform(0.5, 1) * min(whole.shape[:2]))
            top, left = (int(rng.integers(0, length - side + 1)) for length in whole.shape[:2])
            part = whole[top : top + side, left : left + side]
            part = part[:, ::-1] if rng.random() < 0.5 else part
            images.append(classifier.preprocess.geometry(np.ascontiguousarray(part)))
            labels.append(sample.label)
    return Stream(np.stack(images), np.array(labels))


def make_fashion(data: Path | None, checkpoint: Path, epochs: int) -> Subject:
    """The network of the papers' experiments at small scale, trained for fewer epochs."""
    read = fashion.load(data)
    training = Training(epochs=epochs)
    network = train(read.train_images, read.train_labels, checkpoint, training)
    subset = read.test_subset(10 * OF_A_CLASS)
    functions = scale("published")
    view = OnTheFly(
        subset, lambda image: image, {name: functions[name] for name in CORRUPTIONS}, seed=0
    )
    labels = np.array([sample.label for sample in subset.samples])
    rows = choose_rows(labels)
    streams = {}
    for condition in ("clean", *CORRUPTIONS):
        cell = Cell("clean", 0) if condition == "clean" else Cell(condition, SEVERITY)
        needed = sorted({int(row) for chosen in rows.values() for row in chosen})
        images = {row: view.load(subset.samples[row], cell) for row in needed}
        for name, chosen in rows.items():
            if name != "mixed" and condition == CORRUPTIONS[1]:
                continue
            shown = np.stack([images[int(row)] for row in chosen])
            streams[name, condition] = Stream(shown, labels[chosen])
    classifier = wrap_classifier(network)
    return Subject(
        "small ResNet, Fashion-MNIST", classifier, streams, (1, 4, 16, 64, 1024), (4, 32)
    )


def choose_rows(labels: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return which images each stream shows: T-shirts alone; T-shirts, sandals and bags."""
    mixed, first = np.arange(MIXED), labels[:512]
    three = np.flatnonzero(np.isin(labels, (0, 5, 8)))[:OF_A_CLASS]
    return {
        "mixed": mixed,
        "sorted": np.argsort(first, kind="stable"),
        "one class": np.flatnonzero(labels == 0)[:OF_A_CLASS],
        "three classes": three,
        "bursts": order_in_bursts(first, 0.1, generator(0, "batch sizes", "bursts")),
    }


def make_subjects(options: argparse.Namespace) -> list[Subject]:
    """Return the networks that are asked for, with their streams."""
    wanted, subjects = options.network or NETWORKS, []
    if "resnet" in wanted:
        subjects.append(make_fashion(options.data, options.checkpoint, options.epochs))
    if "efficientnet" in wanted:
        subjects.append(make_photographs())
    return subjects


def list_jobs(subject: Subject) -> Iterator[Job]:
    """Yield all figures of a network."""
    for stream, condition in subject.streams:
        sizes = subject.sizes if stream == "mixed" else subject.few
        if stream != "mixed" and condition != "clean":
            sizes = sizes[-1:]
        for size in sizes:
            for spec in SPECS:
                if spec not in ALONE or size == sizes[0]:
                    yield Job(subject, spec, stream, condition, size)


def find_wrong(model: Any, stream: Stream, size: int, count: int) -> NDArray[np.float64]:
    """Return for each image whether the answer was wrong, as 0 or 1."""
    found = []
    for start in range(0, count, size):
        stop = min(start + size, count)
        answers = model.predict(stream.images[start:stop]).argmax(1)
        found.append(answers != stream.labels[start:stop])
    return np.concatenate(found).astype(np.float64)


def measure(job: Job) -> dict[str, Any]:
    """Return a figure: the errors of the source and of the adapter, and their paired difference."""
    source = find_wrong(job.subject.classifier, job.shown, 64, job.images)
    adapter = make_adapter(job.spec, job.subject.classifier)
    wrong = find_wrong(adapter, job.shown, job.size, job.images)
    change = bootstrap_mean(wrong - source)
    return {
        **dict(zip(KEYS, job.key, strict=True)),
        "images": len(wrong),
        "source": round(100 * float(source.mean()), 1),
        "error": round(100 * float(wrong.mean()), 1),
        "change": [round(100 * float(v), 1) for v in (change.value, change.low, change.high)],
    }


def list_missing(
    subjects: Iterable[Subject],
    rows: list[dict[str, Any]],
    specs: Iterable[str] | None,
    conditions: Iterable[str] | None,
) -> list[Job]:
    """Return what is still to be measured, what takes least time first; None is all."""
    known = {tuple(row[key] for key in KEYS) for row in rows}
    jobs = [job for subject in subjects for job in list_jobs(subject) if job.key not in known]
    wanted = [
        job
        for job in jobs
        if (not specs or job.spec in specs) and (not conditions or job.condition in conditions)
    ]
    return sorted(wanted, key=lambda job: job.cost)


def make_tables(rows: list[dict[str, Any]]) -> str:
    """Return the tables of ``docs/adaptation.md``: points of error more than the source, by n."""
    lines = []
    groups = dict.fromkeys(
        (row["network"], row["condition"], row["stream"] == "mixed") for row in rows
    )
    for network, condition, is_mixed in groups:
        here = [
            row
            for row in rows
            if (row["network"], row["condition"]) == (network, condition)
            and (row["stream"] == "mixed") == is_mixed
        ]
        sources = sorted({row["source"] for row in here})
        title = "classes mixed" if is_mixed else "few classes at a time"
        lines.append(
            f"\n**{network}, {condition}, {title}** (source: {sources[0]:g} to {sources[-1]:g} %)\n"
        )
        lines += _make_table(here)
    return "\n".join(lines)


def _make_table(rows: list[dict[str, Any]]) -> list[str]:
    columns = sorted({(row["stream"], row["n"]) for row in rows})
    heads = [f"n = {n}" if stream == "mixed" else f"{stream}, n = {n}" for stream, n in columns]
    lines = ["| points more than the source | " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * len(heads))
    for spec in [spec for spec in SPECS if any(row["adapter"] == spec for row in rows)]:
        mine = {(row["stream"], row["n"]): row["change"] for row in rows if row["adapter"] == spec}
        cells = [
            "{:+.1f} ({:+.1f}…{:+.1f})".format(*mine[column]) if column in mine else ""
            for column in columns
        ]
        lines.append(f"| `{spec}` | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the folder of Fashion-MNIST")
    parser.add_argument("--checkpoint", type=Path, default=Path("batch_sizes.pt"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--network", nargs="*", choices=NETWORKS)
    parser.add_argument("--only", nargs="*", help="of the adapters")
    parser.add_argument("--condition", nargs="*", help="of the conditions")
    parser.add_argument("--minutes", type=float, help="of CPU time, after which it ends")
    parser.add_argument(
        "--tables", action="store_true", help="print what is there, measure nothing"
    )
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.out.exists():
        rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    if options.tables:
        print(make_tables(rows))
        return
    torch.set_num_threads(1)
    subjects = make_subjects(options)
    about = {"epochs": options.epochs, "severity": SEVERITY, "provenance": provenance("cpu", 0)}
    for job in list_missing(subjects, rows, options.only, options.condition):
        if options.minutes and time.process_time() > 60 * options.minutes:
            break
        rows.append(measure(job))
        print(rows[-1], flush=True)
        output.write({**about, "rows": rows}, options.out)
    print(make_tables(rows))


if __name__ == "__main__":
    main()
