"""How few forward passes a number over the grid takes, replayed on stored records of full runs.

The records are of networks on 5,000 images in all 75 cells (``anytime_records.py``), and their
first 250 once more, where replays are cheap. Each replay draws in another order. Whether the
number is inside of the interval at all times, how many of the passes of the full grid mCE to +-1
point takes, and how many it takes to tell two networks apart, is counted. mCE has AlexNet's
denominators, whose errors are of photographs: here they are weights.

python benchmarks/anytime.py --out benchmarks/results/anytime.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import output

from shiftproof.bench.drawing import Asked, Drawing
from shiftproof.corruptions import COMMON, GROUPS
from shiftproof.metrics.betting import ConfidenceSequence
from shiftproof.metrics.corruption import mce_weights
from shiftproof.provenance import provenance
from shiftproof.types import Cell

RECORDS = Path(__file__).parent / "results" / "anytime_records.npz"
CELLS = [Cell(name, severity) for name in COMMON for severity in (1, 2, 3, 4, 5)]
WEIGHTS = mce_weights([cell.corruption for cell in CELLS])
FAMILIES = {name: group for group, found in GROUPS.items() for name in found}
POINTS = 1.0
FEW, FEW_POINTS = 250, 3.0
TARGETS = {"precision": 0.05, "decision": 0.03}


def read_records(path: Path) -> dict[str, np.ndarray]:
    """Return ``(N, 75)`` of each network: 1 where its answer is wrong."""
    with np.load(path) as arrays:
        wrong = np.unpackbits(arrays["wrong"], axis=2, count=int(arrays["images"]))
        return {
            str(name): wrong[at].T.astype(np.float64) for at, name in enumerate(arrays["models"])
        }


def replay(
    answers: np.ndarray, asked: Asked, seed: int, *, aim: float | None
) -> tuple[int, bool, ConfidenceSequence]:
    """Draw until the end is reached.

    Returns:
        The pairs that were asked, whether the number was inside at all times, and the interval.
    """
    models = [asked.model] if asked.against is None else [asked.against, asked.model]
    drawing = Drawing(
        answers.shape[1], CELLS, WEIGHTS, models, [asked], families=FAMILIES, aim=aim, seed=seed
    )
    factors = np.array(asked.factors(models))
    true = float(factors @ (answers.mean(axis=1) @ WEIGHTS))
    inside, place = True, 0
    [interval] = drawing.intervals
    while not drawing.is_exhausted:
        block = drawing.choose(place)
        drawing.add(block, answers[:, block.images, block.cells])
        place += 1
        inside = inside and interval.low - 1e-9 <= true <= interval.high + 1e-9
        if aim is not None and interval.half_width <= aim:
            break
        if asked.against is not None and not interval.low <= 0 <= interval.high:
            break
    return len(drawing), inside, interval


def run_replays(
    answers: np.ndarray, asked: Asked, replays: int, limit: float, *, aim: float | None
) -> dict[str, Any]:
    """Return what came of many replays, each with draws of its own, in so many seconds at most."""
    found: list[tuple[int, bool]] = []
    begun = time.monotonic()
    for seed in range(replays):
        if found and time.monotonic() - begun > limit:
            break
        found.append(replay(answers, asked, seed, aim=aim)[:2])
        if seed % 50 == 0:
            print(asked, seed, found[-1], flush=True)
    passes = np.array([count for count, _ in found])
    share = passes / (answers.shape[1] * len(CELLS))
    return {
        "replays": len(found),
        "covered at all times": round(float(np.mean([inside for _, inside in found])), 4),
        "share of the grid": {
            "mean": round(float(share.mean()), 4),
            "median": round(float(np.median(share)), 4),
            "95 %": round(float(np.quantile(share, 0.95)), 4),
        },
        "pairs asked, mean": round(float(passes.mean())),
    }


def measure(
    records: dict[str, np.ndarray],
    replays: int,
    points: float,
    limit: float,
) -> dict[str, Any]:
    """Return the replays of one network's mCE, and of the difference of two."""
    mce = {name: float(wrong.mean(axis=0) @ WEIGHTS) for name, wrong in records.items()}
    first, second = records
    one = run_replays(records[first][None], Asked(first), replays, limit, aim=points / 100)
    both = np.stack([records[first], records[second]])
    two = run_replays(both, Asked(second, first), replays, limit, aim=None)
    return {
        "images": len(records[first]),
        "mCE": {name: round(value, 4) for name, value in mce.items()},
        f"mCE of {first} to +-{points:g} points": one,
        f"{second} minus {first}, {100 * (mce[second] - mce[first]):.2f} points": two,
    }


def blend(records: dict[str, np.ndarray], points: float = 2.0) -> dict[str, np.ndarray]:
    """Return two systems whose mCEs lie about so many points apart.

    The first is a network. The second is another one of about the same mCE, of which a weaker one
    answers a share of the images, drawn by chance, so large that the gap is what is asked.
    """
    mce = {name: 100 * float(wrong.mean(axis=0) @ WEIGHTS) for name, wrong in records.items()}
    first, second, weak = sorted(mce, key=lambda name: mce[name])[:3]
    share = (mce[first] + points - mce[second]) / (mce[weak] - mce[second])
    chosen = np.random.default_rng(0).random(len(records[first])) < share
    mixed = np.where(chosen[:, None], records[weak], records[second])
    return {first: records[first], f"{second} with {share:.0%} {weak}": mixed}


def find_comebacks(wrong: np.ndarray) -> float:
    """Return the share of images and corruptions that are right again at a higher whole severity."""
    severities = wrong.reshape(len(wrong), len(COMMON), 5)
    first = np.maximum.accumulate(severities, axis=2)
    return float(((first - severities).sum(axis=2) > 0).mean())


def main() -> None:
    """Replay, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--replays", type=int, default=1000, help="on all images")
    parser.add_argument("--few", type=int, default=1000, help="on the first 250 images")
    parser.add_argument("--minutes", type=float, help="of each of the four parts, at most")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    begun = time.process_time()
    records = read_records(given.records)
    limit = np.inf if given.minutes is None else 60 * given.minutes
    few = {name: wrong[:FEW] for name, wrong in records.items()}
    result = {
        "all images": measure(blend(records), given.replays, POINTS, limit),
        "250 images": measure(blend(few), given.few, FEW_POINTS, limit),
        "aims": TARGETS,
        "right again at a higher whole severity": {
            name: round(find_comebacks(wrong), 4) for name, wrong in records.items()
        },
        "seconds of CPU": round(time.process_time() - begun),
        "provenance": provenance("cpu", 0),
    }
    output.show(result, given.out)


if __name__ == "__main__":
    main()
