"""Milliseconds for an image of `shiftproof.stylize`: both engines, and drawing the styles.

    python benchmarks/stylize.py --out benchmarks/results/stylize.json

CPU time of one thread, the least of all repetitions, since other work on a machine only adds; of
drawing the mean over all ways. The weights of AdaIN are random here: they have no influence on the
time. `--sheet FILE` draws one style of each way instead.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import output
from machine import restart_with_one_thread, time_cpu
from PIL import Image

from shiftproof.provenance import provenance
from shiftproof.stylize import AdaIN, DrawnStyles, stylize
from shiftproof.stylize.drawings import TECHNIQUES, draw_style, name_technique

SIZES = {"224x224": (224, 224), "640x480": (640, 480), "2048x1024": (2048, 1024)}


def pictures(width: int, height: int, count: int = 4) -> list[np.ndarray]:
    """Return soft noise of many scales, which has edges as photographs have."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        total = np.zeros((height, width, 3))
        for cells in (4, 8, 16, 32, 64):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / cells
        total -= total.min()
        made.append((255 * total / total.max()).astype(np.uint8))
    return made


def random_weights(folder: Path) -> AdaIN:
    """Return AdaIN with weights of the published shapes."""
    import torch

    from shiftproof.stylize.adain import (
        DECODER_NAMES,
        ENCODER_NAMES,
        list_decoder_shapes,
        list_encoder_shapes,
    )

    torch.manual_seed(0)
    for name, expected in (
        (ENCODER_NAMES[0], list_encoder_shapes),
        (DECODER_NAMES[0], list_decoder_shapes),
    ):
        state = {key: 0.02 * torch.randn(shape) for key, shape in expected().items()}
        torch.save(state, folder / name)
    return AdaIN(folder)


def milliseconds(work: Callable[[int], object], count: int) -> float:
    """Return the least CPU time of ``work(0)``, ``work(1)``, ... in milliseconds."""
    work(0)
    seconds = (time_cpu(work, place)[0] for place in range(count))
    return round(1000 * min(seconds), 1)


def measure(repetitions: int) -> dict[str, Any]:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    styles = [np.array(DrawnStyles().read(number)) for number in range(len(TECHNIQUES))]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        adain = random_weights(Path(scratch))
        for size, (width, height) in SIZES.items():
            images = pictures(width, height)
            row: dict[str, Any] = {"size": size}
            row["free"] = milliseconds(
                lambda at, images=images: stylize(
                    images[at % 4], styles[at % len(styles)], key=str(at)
                ),
                repetitions,
            )
            if size != "2048x1024":
                # A new style each time, as in a copy with many styles: the style is encoded, too.
                row["adain"] = milliseconds(
                    lambda at, images=images: stylize(
                        images[at % 4], np.roll(styles[at % 10], at, axis=0), engine=adain
                    ),
                    2,
                )
            rows.append(row)
    draw_style.cache_clear()
    start = time.process_time()
    for number in range(2 * len(TECHNIQUES)):
        draw_style(number)
    drawing = 1000 * (time.process_time() - start) / (2 * len(TECHNIQUES))
    return {"rows": rows, "drawing a style": round(drawing, 1)}


def summary(result: dict[str, Any]) -> str:
    """Return the table of the page."""
    lines = ["| size | free, ms | AdaIN, ms |", "|---|---|---|"]
    for row in result["rows"]:
        adain = f"{row['adain']:.0f}" if "adain" in row else "-"
        lines.append(f"| {row['size'].replace('x', ' x ')} | {row['free']:.0f} | {adain} |")
    lines += [
        "",
        f"Generating a style takes {result['drawing a style']:.0f} ms, once for each style and process.",
    ]
    return "\n".join(lines) + "\n"


def draw_sheet(path: Path) -> None:
    """Write one style of each way, five beside each other."""
    tiles = [draw_style(number)[:192, :192] for number in range(len(TECHNIQUES))]
    rows = [np.concatenate(tiles[at : at + 5], axis=1) for at in range(0, len(tiles), 5)]
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)
    print(", ".join(name_technique(number) for number in range(len(TECHNIQUES))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    if options.sheet is not None:
        draw_sheet(options.sheet)
        return
    restart_with_one_thread()
    result = {
        "what": "CPU milliseconds for an image, one thread, least of the repetitions",
        **measure(options.repetitions),
        "provenance": provenance("cpu", 1),
    }
    output.show(result, options.out)


if __name__ == "__main__":
    main()
