"""The router against its experts and the best of them in hindsight, on every protocol.

python benchmarks/router.py --out benchmarks/results/router.json

A small ResNet, trained here on Fashion-MNIST (``--data``; Debian's package dataset-fashion-mnist), that
``batch_sizes.py`` trains too. The constants of the label-free estimates were chosen on the part
``hold-out`` (the four hold-out corruptions); ``reported`` has the fifteen. Errors are paired over
images, with bootstrap intervals of 95 % over images. Interrupted, it goes on where it was. What the
router costs is measured last, in CPU time over a plain forward pass, on ResNet-18.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import output
import torch
import torchvision
from numpy.typing import NDArray

from shiftproof import Classifier
from shiftproof.adapt import Adapter, Router, make_adapter
from shiftproof.bench.cells.stream import order_in_bursts
from shiftproof.corruptions import COMMON, HOLDOUT, corrupt, scale
from shiftproof.metrics import bootstrap_mean
from shiftproof.models import Preprocess
from shiftproof.provenance import provenance
from shiftproof.rng import generator
from shiftproof_reproduce import fashion
from shiftproof_reproduce.fashion import FashionMNIST
from shiftproof_reproduce.network import wrap_classifier
from shiftproof_reproduce.training import Training, train

BATCHNORM = "batchnorm:prior=measured"
LEARNER, RASH = "ent:prior=measured,lr=0.3", "ent:prior=measured,lr=30"
"""The experts beside the source, which do not look at its answers. The rate is the one that
``self-learning`` chose on the hold-out corruptions; the third is 100 times as high."""

IMAGES = 384
OF_A_CLASS = 128
SINGLE = 64
PER_CORRUPTION = 160
BATCH = 64
SEVERITIES = (3,)
EVERY = 16
"""Images per label, where some come."""

CLASSES = (0, 5)
"""Shown alone: T-shirts, which the network confuses, and sandals, which it does not."""

PARTS = {"hold-out": tuple(HOLDOUT), "reported": tuple(COMMON)}


@dataclass(frozen=True, eq=False)
class Stream:
    """Images in their order, which test image each is, the labels, and the size of batches."""

    name: str
    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    size: int = BATCH
    learner: str = LEARNER


# ---------------------------------------------------------------- streams


class Pictures:
    """Test images by row and cell, corrupted once."""

    def __init__(self, data: FashionMNIST) -> None:
        self._data = data
        self._functions = scale("published")
        self._made: dict[tuple[int, str], NDArray[np.uint8]] = {}

    def read(self, row: int, cell: str) -> NDArray[np.uint8]:
        """Return one image ``(28, 28, 3)`` in a cell: ``clean`` or ``fog-2``."""
        if (row, cell) not in self._made:
            image = np.repeat(self._data.test_images[row][..., None], 3, 2)
            if cell != "clean":
                name, _, severity = cell.rpartition("-")
                image = corrupt(
                    image, self._functions[name], severity=int(severity), seed=0, key=f"{row}"
                )
            self._made[row, cell] = image
        return self._made[row, cell]

    def stream(
        self, name: str, rows: Sequence[int] | NDArray[Any], cells: Sequence[str], **how: Any
    ) -> Stream:
        """Return a stream of images, each in its cell."""
        images = np.stack([self.read(int(r), c) for r, c in zip(rows, cells, strict=True)])
        labels = self._data.test_labels[np.asarray(rows)].astype(np.int64)
        return Stream(name, images, np.asarray(rows, dtype=np.int64), labels, **how)


def list_streams(data: FashionMNIST, corruptions: Sequence[str]) -> Iterator[tuple[str, Stream]]:
    """Yield the protocol and each of its streams."""
    pictures = Pictures(data)
    random = generator(0, "router", "rows")
    order = random.permutation(len(data.test_images))
    rows = order[:IMAGES]
    labels = data.test_labels[rows]
    sorted_rows = rows[np.argsort(labels, kind="stable")]
    bursts = rows[order_in_bursts(labels, 0.1, generator(0, "router", "dirichlet"))]
    cells = [f"{name}-{severity}" for name in corruptions for severity in SEVERITIES]
    drawn = [cells[place] for place in random.integers(0, len(cells), IMAGES * 2)]
    yield "mixed", pictures.stream("all", order[: IMAGES * 2], drawn)
    strongest = [cell for cell in cells if cell.endswith(f"-{SEVERITIES[-1]}")]
    follow = [cell for cell in strongest for _ in range(PER_CORRUPTION)]
    chosen = np.concatenate([random.permutation(rows)[:PER_CORRUPTION] for _ in strongest])
    yield "continual", pictures.stream("all", chosen, follow)
    for cell in ("clean", *cells):
        yield "online", pictures.stream(cell, rows, [cell] * IMAGES)
        yield "rate 100 times too high", pictures.stream(cell, rows, [cell] * IMAGES, learner=RASH)
        yield "sorted", pictures.stream(cell, sorted_rows, [cell] * IMAGES)
        yield "Dirichlet", pictures.stream(cell, bursts, [cell] * IMAGES)
        for label in CLASSES:
            alone = order[data.test_labels[order] == label][:OF_A_CLASS]
            yield "one class", pictures.stream(f"{cell}, class {label}", alone, [cell] * len(alone))
        if cell == "clean" or cell.endswith(f"-{SEVERITIES[-1]}"):
            yield "single images", pictures.stream(cell, rows[:SINGLE], [cell] * SINGLE, size=1)


# ---------------------------------------------------------------- one stream


def find_wrong(model: Any, stream: Stream, every: int | None = None) -> NDArray[np.bool_]:
    """Return for each image whether the answer was wrong; a router gets a label each so many."""
    found: list[NDArray[np.bool_]] = []
    for start in range(0, len(stream.labels), stream.size):
        part = slice(start, start + stream.size)
        found.append(model.predict(stream.images[part]).argmax(1) != stream.labels[part])
        if every:
            stop = start + len(found[-1])
            for index in range(-(-start // every) * every, stop, every):
                model.label(index, int(stream.labels[index]))
    return np.concatenate(found)


def record(spec: str, kept: list[Any]) -> Callable[[Any], Adapter]:
    """Return what makes an adapter that keeps the logits that it gives."""

    def make(model: Any) -> Adapter:
        adapter: Any = make_adapter(spec, model)
        predict = adapter.predict

        def predict_and_keep(images: Any) -> Any:
            kept.append(predict(images))
            return kept[-1]

        adapter.predict = predict_and_keep
        return cast("Adapter", adapter)

    return make


def replay(spec: str, kept: list[Any]) -> Callable[[Any], Adapter]:
    """Return what makes an adapter that gives the same logits again: labels change no expert."""

    def make(model: Any) -> Adapter:
        adapter: Any = make_adapter(spec, model)
        left = iter(kept)
        adapter.predict = lambda images: next(left)
        return cast("Adapter", adapter)

    return make


def name_experts(makers: Mapping[str, Callable[[Any], Adapter]]) -> list[Callable[[Any], Adapter]]:
    """Give each the name that the router tells."""
    for name, make in makers.items():
        make.__qualname__ = name
    return list(makers.values())


def measure(classifier: Classifier, stream: Stream) -> dict[str, Any]:
    """Return who was wrong on which image, and how many images each expert answered."""
    specs = {"batchnorm": BATCHNORM, "learner": stream.learner}
    kept: dict[str, list[Any]] = {name: [] for name in specs}
    recording = {name: record(spec, kept[name]) for name, spec in specs.items()}
    router = Router(classifier, experts=name_experts(recording))
    wrong = {"source": find_wrong(classifier, stream), "router": find_wrong(router, stream)}
    for name, logits in kept.items():
        wrong[name] = np.concatenate(logits).argmax(1) != stream.labels
    again = {name: replay(spec, kept[name]) for name, spec in specs.items()}
    taught = Router(classifier, experts=name_experts(again))
    wrong["router, labels"] = find_wrong(taught, stream, EVERY)
    return {
        "images": len(stream.labels),
        "n": stream.size,
        "wrong": {name: _to_hex(bits) for name, bits in wrong.items()},
        "rows": stream.rows.astype("<u2").tobytes().hex(),
        "answered": router.answered,
    }


def _to_hex(bits: NDArray[np.bool_]) -> str:
    return bytes(np.packbits(bits)).hex()


def _read_rows(text: str) -> NDArray[np.int64]:
    """Return which test image each is, from two bytes each."""
    return np.frombuffer(bytes.fromhex(text), "<u2").astype(np.int64)


def _from_hex(text: str, count: int) -> NDArray[np.float64]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(np.float64)


# ---------------------------------------------------------------- all of a protocol


EXPERTS = ("source", "batchnorm", "learner")


def summarize(streams: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the errors over all streams of a protocol, in percent, and the paired differences."""
    names = list(streams[0]["wrong"])
    wrong = {
        name: np.concatenate([_from_hex(s["wrong"][name], s["images"]) for s in streams])
        for name in names
    }
    rows = np.concatenate([_read_rows(s["rows"]) for s in streams])
    errors = {name: 100 * float(values.mean()) for name, values in wrong.items()}
    best = min(EXPERTS, key=lambda name: errors[name])
    each = [
        min(float(_from_hex(s["wrong"][name], s["images"]).sum()) for name in EXPERTS)
        for s in streams
    ]
    answered = {
        name: 100 * sum(s["answered"][name] for s in streams) / len(rows) for name in EXPERTS
    }
    return {
        "streams": len(streams),
        "images": len(rows),
        "errors": errors,
        "best": best,
        "best of each stream": 100 * sum(each) / len(rows),
        "answered": answered,
        **{
            f"{name} - {other}": _compare(wrong[name] - wrong[other], rows)
            for name in names
            if name.startswith("router")
            for other in dict.fromkeys((best, "source"))
        },
    }


def _compare(difference: NDArray[np.float64], rows: NDArray[np.int64]) -> list[float]:
    """Return the mean difference in points and its interval: test images are drawn, not cells."""
    places, which = np.unique(rows, return_inverse=True)
    per_image = np.bincount(which, difference) * (len(places) / len(rows))
    found = bootstrap_mean(per_image)
    return [100 * float(v) for v in (found.value, found.low, found.high)]


def make_table(result: dict[str, Any], part: str) -> str:
    """Return a table of docs/adaptation.md."""
    lines = [
        "| error in % | source | batchnorm | learner | router | router − best expert | "
        "best of each stream | with labels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    kept = [row for row in result["streams"] if row["part"] == part]
    for protocol in dict.fromkeys(row["protocol"] for row in kept):
        found = summarize([row for row in kept if row["protocol"] == protocol])
        errors, best = found["errors"], found["best"]
        shown = [
            f"**{errors[name]:.1f}**" if name == best else f"{errors[name]:.1f}" for name in EXPERTS
        ]
        change = "{:+.1f} ({:+.1f}…{:+.1f})".format(*found[f"router - {best}"])
        lines.append(
            f"| {protocol} ({found['streams']}) | {' | '.join(shown)} | {errors['router']:.1f} | {change} | "
            f"{found['best of each stream']:.1f} | {errors['router, labels']:.1f} |"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- what it costs


def measure_cost(rounds: int = 5, size: int = 64, side: int = 32) -> dict[str, Any]:
    """CPU time over that of a plain forward pass, of one thread, medians over rounds."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=100).eval()
    classifier = Classifier(network, Preprocess((side, side), side))
    images = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    models: dict[str, Any] = {"plain": classifier}
    models |= {spec: make_adapter(spec, classifier) for spec in ("batchnorm", "rpl", "router")}
    for model in models.values():
        model.predict(images)  # the first batch is watched, and slower
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            start = time.process_time()
            model.predict(images)
            seconds[name].append(time.process_time() - start)
    ratios = {
        name: [spent / plain for spent, plain in zip(seconds[name], seconds["plain"], strict=True)]
        for name in models
    }
    return {
        "network": "torchvision resnet18",
        "side": side,
        "n": size,
        "plain_ms_per_image": 1000 * statistics.median(seconds["plain"]) / size,
        "ratios": {name: statistics.median(values) for name, values in ratios.items()},
        "low": {name: min(values) for name, values in ratios.items()},
        "high": {name: max(values) for name, values in ratios.items()},
    }


def make_cost_line(cost: dict[str, Any]) -> str:
    """Return the sentence of docs/adaptation.md."""
    told = ", ".join(
        f"`{name}` {cost['ratios'][name]:.2f} ({cost['low'][name]:.2f}–{cost['high'][name]:.2f})"
        for name in ("batchnorm", "rpl", "router")
    )
    return (
        f"Times a plain forward pass (ResNet-18, {cost['n']} images of {cost['side']} x "
        f"{cost['side']} pixels, CPU time of one thread): {told}."
    )


# ---------------------------------------------------------------- all


def main() -> None:
    """Measure what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the folder of Fashion-MNIST")
    parser.add_argument("--checkpoint", type=Path, default=Path("batch_sizes.pt"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--part", choices=[*PARTS], action="append")
    parser.add_argument("--tables", action="store_true", help="print what is there")
    options = parser.parse_args()
    result: dict[str, Any] = {"streams": []}
    if options.out.exists():
        result = json.loads(options.out.read_text(encoding="utf-8"))
    if not options.tables:
        torch.set_num_threads(1)
        run(result, options)
    for part in PARTS:
        print(f"\n{part}\n\n{make_table(result, part)}")
    if "cost" in result:
        print(f"\n{make_cost_line(result['cost'])}")


def run(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Measure what is missing, and write after every fourth stream."""
    data = fashion.load(options.data)
    training = Training(epochs=options.epochs)
    network = train(data.train_images, data.train_labels, options.checkpoint, training)
    classifier = wrap_classifier(network)
    result["provenance"] = provenance("cpu", 0)
    result["epochs"] = options.epochs
    done = {(row["part"], row["protocol"], row["stream"]) for row in result["streams"]}
    for part in options.part or PARTS:
        for number, (protocol, stream) in enumerate(list_streams(data, PARTS[part])):
            if (part, protocol, stream.name) in done:
                continue
            row = {"part": part, "protocol": protocol, "stream": stream.name}
            result["streams"].append({**row, **measure(classifier, stream)})
            if number % 4 == 3:
                output.write(result, options.out)
                print(part, protocol, stream.name, flush=True)
    if "cost" not in result:
        result["cost"] = measure_cost()
    output.write(result, options.out)


if __name__ == "__main__":
    main()
