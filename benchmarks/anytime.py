"""How few forward passes a number over the grid takes, replayed on stored records of full runs.

The records are of networks on 5,000 images in all 75 cells (``anytime_records.py``), and their
first 250 once more, where replays are cheap. Each replay draws in another order. Whether the
number is inside of the interval at all times, how many of the passes of the full grid mCE to +-1
point takes, and how many it takes to tell two networks apart, is counted. mCE has AlexNet's
denominators, whose errors are of photographs: here they are weights.

Every replay is kept beside FILE, as ``.replays``, until all are through: the same command goes on.

python benchmarks/anytime.py --out benchmarks/results/anytime.json
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import output

from shiftproof.bench.other_runs import pair_sampling
from shiftproof.bench.other_runs.pair_sampling import Estimand, PairSampler
from shiftproof.corruptions import COMMON, GROUPS
from shiftproof.metrics import betting, difficulty
from shiftproof.metrics.corruption import compute_mce_weights
from shiftproof.provenance import provenance
from shiftproof.types import Cell

RECORDS = Path(__file__).parent / "results" / "anytime_records.npz"
CELLS = [Cell(name, severity) for name in COMMON for severity in (1, 2, 3, 4, 5)]
WEIGHTS = compute_mce_weights([cell.corruption for cell in CELLS])
FAMILIES = {name: group for group, found in GROUPS.items() for name in found}
POINTS = 1.0
FEW, FEW_POINTS = 250, 3.0
TARGETS = {"precision": 0.05, "decision": 0.03}


class Replay(NamedTuple):
    """What came of the draws of one order: pairs asked, inside at all times, seconds of CPU."""

    pairs: int
    inside: bool
    seconds: float


class Kept:
    """Replays on disk, a line each, of this code and these records alone; in memory without a file."""

    def __init__(self, path: Path | None, records: Path) -> None:
        self.path = path
        sources = [Path(str(one.__file__)) for one in (pair_sampling, betting, difficulty)]
        contents = b"".join(one.read_bytes() for one in [records, *sources])
        contents += inspect.getsource(replay).encode() + inspect.getsource(blend).encode()
        self._digest = hashlib.sha256(contents).hexdigest()[:16]
        self.replays = dict(self._read())

    def add(self, part: str, seed: int, one: Replay) -> None:
        """Keep a replay."""
        self.replays[part, seed] = one
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps([self._digest, part, seed, *one]) + "\n")

    def _read(self) -> list[tuple[tuple[str, int], Replay]]:
        if self.path is None or not self.path.exists():
            return []
        # A line that was cut off has no end.
        lines = self.path.read_text().rpartition("\n")[0].splitlines()
        self.path.write_text("".join(f"{line}\n" for line in lines))
        rows = [json.loads(line) for line in lines]
        return [
            ((part, seed), Replay(*one))
            for digest, part, seed, *one in rows
            if digest == self._digest
        ]


def read_records(path: Path) -> dict[str, np.ndarray]:
    """Return ``(N, 75)`` of each network: 1 where its answer is wrong."""
    with np.load(path) as arrays:
        wrong = np.unpackbits(arrays["wrong"], axis=2, count=int(arrays["images"]))
        return {
            str(name): wrong[at].T.astype(np.float64) for at, name in enumerate(arrays["models"])
        }


def replay(answers: np.ndarray, asked: Estimand, seed: int, *, aim: float | None) -> Replay:
    """Draw until the end is reached."""
    begun = time.process_time()
    models = [asked.model] if asked.against is None else [asked.against, asked.model]
    sampler = PairSampler(
        answers.shape[1], CELLS, WEIGHTS, models, [asked], families=FAMILIES, aim=aim, seed=seed
    )
    factors = np.array(asked.factors(models))
    true = float(factors @ (answers.mean(axis=1) @ WEIGHTS))
    inside, place = True, 0
    [interval] = sampler.intervals
    while not sampler.is_exhausted:
        block = sampler.draw_block(place)
        sampler.add(block, answers[:, block.images, block.cells])
        place += 1
        inside = inside and interval.low - 1e-9 <= true <= interval.high + 1e-9
        if aim is not None and interval.half_width <= aim:
            break
        if asked.against is not None and not interval.low <= 0 <= interval.high:
            break
    return Replay(len(sampler), bool(inside), round(time.process_time() - begun, 3))


def run_replays(
    answers: np.ndarray,
    asked: Estimand,
    replays: int,
    limit: float,
    kept: Kept,
    *,
    aim: float | None,
) -> dict[str, Any]:
    """Return what came of many replays, each with draws of its own: those that are kept, and more in
    so many seconds at most.
    """
    found: list[Replay] = []
    part = f"{answers.shape[1]} images, {asked}"
    begun = time.monotonic()
    for seed in range(replays):
        if (part, seed) not in kept.replays:
            if found and time.monotonic() - begun > limit:
                break
            kept.add(part, seed, replay(answers, asked, seed, aim=aim))
        found.append(kept.replays[part, seed])
        if seed % 50 == 0:
            print(asked, seed, found[-1], flush=True)
    passes = np.array([one.pairs for one in found])
    share = passes / (answers.shape[1] * len(CELLS))
    return {
        "replays": len(found),
        "inside at all times": sum(one.inside for one in found),
        "covered at all times": round(float(np.mean([one.inside for one in found])), 4),
        "share of the grid": {
            "mean": round(float(share.mean()), 4),
            "median": round(float(np.median(share)), 4),
            "95 %": round(float(np.quantile(share, 0.95)), 4),
        },
        "pairs asked, mean": round(float(passes.mean())),
        "seconds of CPU": round(sum(one.seconds for one in found)),
    }


def measure(
    records: dict[str, np.ndarray],
    replays: int,
    points: float,
    limit: float,
    kept: Kept,
) -> dict[str, Any]:
    """Return the replays of one network's mCE, and of the difference of two."""
    mce = {name: float(wrong.mean(axis=0) @ WEIGHTS) for name, wrong in records.items()}
    first, second = records
    one = run_replays(records[first][None], Estimand(first), replays, limit, kept, aim=points / 100)
    both = np.stack([records[first], records[second]])
    two = run_replays(both, Estimand(second, first), replays, limit, kept, aim=None)
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
    kept = Kept(given.out and given.out.with_suffix(".replays"), given.records)
    records = read_records(given.records)
    limit = np.inf if given.minutes is None else 60 * given.minutes
    few = {name: wrong[:FEW] for name, wrong in records.items()}
    result = {
        "all images": measure(blend(records), given.replays, POINTS, limit, kept),
        "250 images": measure(blend(few), given.few, FEW_POINTS, limit, kept),
        "aims": TARGETS,
        "right again at a higher whole severity": {
            name: round(find_comebacks(wrong), 4) for name, wrong in records.items()
        },
        "seconds of CPU": round(sum(one.seconds for one in kept.replays.values())),
        "provenance": provenance("cpu", 0),
    }
    output.show(result, given.out)
    if kept.path is not None and given.minutes is None:
        kept.path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
