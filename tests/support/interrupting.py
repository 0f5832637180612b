"""Kill commands at their k-th change of the disk, and check that they resume as if never killed.

A separate process that imports everything once and forks for each command. Reads lines
``VERB LIMIT`` from standard input, and answers each with a line of JSON. To fork a process that has
imported torch takes five times as long, so the verbs of :data:`WITH_TORCH` belong in one of their own.
"""

import contextlib
import datetime
import functools
import json
import os
import re
import shutil
import sys
import traceback
import types
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import shiftproof.provenance
from shiftproof import Classifier, Encoder, Preprocess, Segmenter, bench, cli
from shiftproof.bench.other_runs import pair_sampling
from shiftproof.cli.outcome import write_page
from shiftproof.data import open_segmentation_data
from shiftproof.evaluate import evaluate
from shiftproof.metrics import intervals
from shiftproof.probe import mlp
from shiftproof.probe import probe as probe_encoders
from support import (
    blobs,
    tiny,
)
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.learner import Learner
from support.vector_folders import tar_of, unit_vectors, vectors

KILLED = 137
"""What a shell says of a process that was killed."""

WORKERS = 0
"""Processes that a verb starts beside its own; read when it begins."""

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.chmod"}


# ---------------------------------------------------------------- commands


def photos(root):
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(10):
        pixels = np.kron(rng.integers(40, 200, (4, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{number}.png")
    return root / "photos"


def rows(root):
    test = unit_vectors(20, 1)
    train = np.concatenate([unit_vectors(60, 3), test[[7, 9, 9]]])
    columns = {"key": lambda n, row: f"{row:05d}", "uid": lambda n, row: f"{n:016x}{row:016x}"}
    vectors(root / "train", train[:40], train[40:], **columns)
    np.save(root / "sketch.npy", test)
    np.save(root / "imagenet.npy", unit_vectors(40, 4))
    return root / "train", root / "sketch.npy", root / "imagenet.npy"


def command(*words):
    words = [str(word) for word in words]
    sys.argv[:] = ["shiftproof", *words]
    return cli.run(words)


def with_page(run):
    write_page(run.path)
    return 0


def classification(root):
    data = tiny.write_photos(root / "photos", per_class=2)

    def work(out):
        return with_page(
            bench.run(
                tiny.make_model(), data, corruptions=["contrast", "pixelate"], severities=[1, 5],
                adapters={"learner": Learner}, protocol="online:reset=never", batch_size=3,
                out=out, workers=WORKERS,
            )
        )  # fmt: skip

    return work


def extended(root):
    """Start a run, then extend it by one more of everything."""
    data = tiny.write_photos(root / "photos", per_class=1)
    grid = {"corruptions": ["contrast"], "severities": [1], "workers": WORKERS}
    models = {"one": tiny.make_model(), "two": tiny.make_model()}
    more = {"corruptions": ["contrast", "pixelate"], "adapters": {"learner": Learner}}

    def work(out):
        bench.run(models["one"], data, out=out, **grid)
        return with_page(bench.run(models, data, out=out, **{**grid, **more}))

    return work


def anytime(root):
    data = tiny.write_photos(root / "photos", per_class=2)
    pair_sampling.FIRST_BLOCK = 4
    grid = {"corruptions": ["fog"], "severities": [3, 5], "batch_size": 4}

    def work(out):
        return with_page(
            bench.run_anytime(
                tiny.make_model(), data, precision=1e-9, out=out, workers=WORKERS, **grid
            )
        )

    return work


def breaking(root):
    data = tiny.write_photos(root / "photos", per_class=2)
    options = {"corruptions": ["contrast"], "batch_size": 8}
    return lambda out: with_page(
        bench.find_breaking(tiny.make_model(), data, out=out, workers=WORKERS, **options)
    )


def detection(root):
    data = blobs.write_blocks(root / "data", images=3)
    grid = {"corruptions": ["contrast"], "severities": [1]}
    return lambda out: with_page(
        bench.run(blobs.make_detector(), data, out=out, workers=WORKERS, **grid)
    )


def segmentation(root):
    data = open_segmentation_data(write_folders(root / "data", 3), classes=list(NAMES))
    grid = {"corruptions": ["contrast"], "severities": [1]}
    segmenter = Segmenter(nearest_color, NAMES)
    return lambda out: with_page(bench.run(segmenter, data, out=out, workers=WORKERS, **grid))


def evaluation(root):
    data = {name: tiny.write_photos(root / name, per_class=2) for name in ("near", "far")}
    return lambda out: with_page(
        evaluate(tiny.make_model(), data, out=out, workers=WORKERS, show_progress=False)
    )


def six_colors(batch):
    colors = tiny.mean_colour(batch)
    return np.concatenate([colors, -colors], axis=1)


def sequences(root):
    data = tiny.write_photos(root / "photos", per_class=1)
    classifier = Classifier(six_colors, tiny.make_model().preprocess, list("abcdef"), name="six")

    def work(out):
        bench.measure_stability(
            classifier, data, out=out, perturbations=["brightness", "tilt"],
            show_progress=False,
        )  # fmt: skip
        return 0

    return work


def answers(root):
    truth = tiny.write_photos(root / "photos", per_class=2)
    (root / "answers").mkdir()
    for place, name in enumerate(("clean", "fog-3", "snow-1")):
        np.save(root / "answers" / f"{name}.npy", 5 * np.eye(3)[(np.arange(6) + place) % 3])
    (root / "names.txt").write_text("\n".join(tiny.NAMES))
    return lambda out: command(
        "score", "-p", root / "answers", "-d", truth, "--classes", root / "names.txt", "-o", out,
        "-w", WORKERS,
    )  # fmt: skip


def score(root):
    truth = json.loads(
        (blobs.write_blocks(root / "data", images=3) / "annotations/blocks.json").read_text()
    )
    found = [{**one, "score": 0.5} for one in truth["annotations"]]
    (root / "found" / "fog").mkdir(parents=True)
    (root / "found" / "clean.json").write_text(json.dumps(found))
    (root / "found" / "fog" / "3.json").write_text(json.dumps(found[1:]))
    annotations = root / "data" / "annotations" / "blocks.json"
    return lambda out: command(
        "score", "-p", root / "found", "-d", annotations, "-o", out, "-w", WORKERS
    )


def corrupt(root):
    data = blobs.write_blocks(root / "data", images=2)
    return lambda out: command("corrupt", data, out, "-c", "fog,contrast", "-s", 1, "-w", WORKERS)


def stylize(root):
    data = blobs.write_blocks(root / "data", images=2)
    return lambda out: command("stylize", data, out, "--combined", "-w", WORKERS)


def embed(root):
    import timm
    import torch

    data = photos(root)
    name = "test_resnet"
    torch.save(timm.create_model(name, num_classes=3).state_dict(), root / "network.pt")
    return lambda out: command(
        "embed", "-m", f"file:{root / 'network.pt'}?arch=timm:{name}&size=32", "-d", data, "-o", out,
        "--shard-size", 5, "-w", WORKERS, "--device", "cpu",
    )  # fmt: skip


def audit(root):
    train, test, reference = rows(root)
    return lambda out: command(
        "audit", train, "-t", f"sketch={test}", "--reference", reference, "-o", out, "--k", 2,
        "--part-rows", 40, "-w", WORKERS,
    )  # fmt: skip


def prune(root):
    train, test, reference = rows(root)
    return lambda out: command(
        "prune", train, "-t", test, "--reference", reference, "-o", out, "-w", WORKERS
    )


def dedup(root):
    train, _, _ = rows(root)
    return lambda out: command("dedup", train, "-o", out, "--threshold", 0.9, "-w", WORKERS)


def coreset(root):
    train, test, _ = rows(root)
    return lambda out: command("coreset", train, "-t", test, "-o", out, "--size", 9, "-w", WORKERS)


def subset(root):
    train, _, _ = rows(root)
    keep = np.arange(63) % 3 == 0
    np.save(root / "keep.npy", keep)
    (root / "tars").mkdir()
    tar_of(root / "tars" / "0.tar", [f"{row:05d}" for row in range(40)])
    tar_of(root / "tars" / "1.tar", [f"{row:05d}" for row in range(23)])
    return lambda out: command(
        "subset", train, "--keep", root / "keep.npy", "-o", out, "--tars", root / "tars"
    )


def mean_colour(inputs):
    return inputs.mean(axis=(2, 3))


def probe(root):
    data = photos(root)
    plain = Preprocess((16, 16), None, mean=(0, 0, 0), std=(1, 1, 1))
    encoder = Encoder(mean_colour, plain, normalize=False, name="mean")
    return lambda out: with_page(
        probe_encoders(encoder, data, out=out, factors="brightness", versions=2, workers=WORKERS)
    )


VERBS = {
    "bench classification": classification,
    "bench extended": extended,
    "bench anytime": anytime,
    "breaking": breaking,
    "bench detection": detection,
    "bench segmentation": segmentation,
    "evaluate": evaluation,
    "perturb": sequences,
    "score": score,
    "score classes": answers,
    "corrupt": corrupt,
    "stylize": stylize,
    "embed": embed,
    "audit": audit,
    "prune": prune,
    "dedup": dedup,
    "coreset": coreset,
    "subset": subset,
    "probe": probe,
}

WITH_TORCH = {"bench classification", "embed", "probe"}
"""Verbs that learn with torch or load a network of it."""


# ---------------------------------------------------------------- one run


def watch(out, kill_at):
    """Die before the given change in a folder; return a function that counts the changes."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changes = arguments[0] if arguments else None, event in CHANGES
        if not changes or not isinstance(path, (str, bytes, os.PathLike)):
            return
        if not os.fsdecode(path).startswith(str(out)):
            return
        count += 1
        if count == kill_at:
            os._exit(KILLED)

    sys.addaudithook(hook)
    return lambda: count


def run_once(work, out, *, kill_at=0):
    """Run a command in a fork; return its exit code, its number of changes, and its output."""
    output = out.with_name("output")
    child = os.fork()
    if child == 0:
        code = 99
        try:
            printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            changes = watch(out, kill_at)
            code = work(out)
            output.with_suffix(".count").write_text(str(changes()))
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")


def contents(folder):
    """Return the content of every file, and the folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def without_provenance(files):
    """Return the output of a command without its number of processes and its command line."""
    kept = {}
    for name, content in files.items():
        lines = [] if content is None else content.splitlines()
        kept[name] = [
            line
            for line in lines
            if not re.match(
                rb' *"(workers|command|started)": |.*<bdi>(workers|command|started)<', line
            )
        ]
    return kept


def differing(there, expected):
    return sorted(
        name for name in {*there, *expected} if there.get(name, 0) != expected.get(name, 0)
    )


def interrupted(work, out, expected, kills):
    """Kill a run at these changes in turn; return what is wrong after it, or None."""
    shutil.rmtree(out, ignore_errors=True)
    for kill_at in kills:
        code, output = run_once(work, out, kill_at=kill_at)
        if code == 0:
            break  # fewer changes were left
        if code != KILLED:
            return f"killed at {kills}: ended with {code}: {output[-2000:]}"
    code, output = run_once(work, out)
    if code != 0:
        return f"killed at {kills}, then ended with {code}: {output[-2000:]}"
    found = differing(contents(out), expected)
    return f"killed at {kills}, then these differ: {found}" if found else None


def spread(events, limit):
    """Return evenly spaced event numbers from first to last, and those near the beginning."""
    if events <= limit:
        return list(range(1, events + 1))
    first = list(range(1, min(4, limit) + 1))
    rest = np.linspace(len(first) + 1, events, limit - len(first)).round().astype(int).tolist()
    return sorted({*first, *rest})


def check(name, root, limit):
    """Kill a verb at so many of its changes (0: at each), and return what was wrong."""
    root.mkdir()
    work, out = VERBS[name](root), root / "out"
    with (root / "warm").open("w") as output, contextlib.redirect_stdout(output):
        # Before the forks, so that none has to import and compile again.
        work(root / "first")
    code, output = run_once(work, out)
    if code != 0:
        faults = [f"undisturbed it ended with {code}: {output}"]
        return {"events": 0, "kills": 0, "faults": faults, "torch": name in WITH_TORCH}
    expected = contents(out)
    events = int((root / "output.count").read_text())
    # Repeating a finished command must change nothing either.
    kills = [[at] for at in spread(events, limit or events)]
    if not limit:
        kills += [[at, 1 + at // 2] for at in range(1, events + 1)]
    else:
        kills.append([events // 2, 3])
    faults = [fault for at in kills if (fault := interrupted(work, out, expected, at))]
    faults += [f"is left: {name}" for name in expected if name.endswith((".part", ".lock"))]
    has_torch = "torch" in sys.modules
    return {"events": events, "kills": len(kills), "faults": faults, "torch": has_torch}


def prepare():
    """Make repeated runs fast and identical to the byte."""
    # One thread: torch, which some verbs import, reads the first, and numba would set it anew.
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    # After a kill the machine still runs, so data that are not on the disk yet survive.
    os.fsync = lambda _: None
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
    frozen = types.SimpleNamespace(now=lambda zone: now)
    shiftproof.provenance.datetime = types.SimpleNamespace(
        datetime=frozen, timezone=datetime.timezone
    )
    intervals.REPLICATES = 20
    for function in (intervals.resample_weights, intervals.sum_resamples):
        defaults = [20 if value == 1000 else value for value in function.__defaults__]
        function.__defaults__ = tuple(defaults)
    mlp.STEPS = 2


def main():
    prepare()
    root = Path(sys.argv[1])
    # Files opened later than in the first run would be missing in the others.
    answer = functools.partial(print, flush=True, file=os.fdopen(os.dup(1), "w"))
    for line in sys.stdin:
        name, _, limit = line.strip().rpartition(" ")
        answer(json.dumps(check(name, root / name.replace(" ", "-"), int(limit))))


if __name__ == "__main__":
    main()
