"""A job with known parts that a test can kill or pause."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np

from shiftproof.shards import Job, run_shards


def squares(context, shard):
    """Return numbers and a text; ``context["die"]`` is a file to write when this worker is killed."""
    if context.get("die") and shard == 3 and not Path(context["die"]).exists():
        Path(context["die"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if context.get("always") and shard == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if shard in context.get("broken", ()):
        raise ValueError(f"shard {shard} cannot be read")
    time.sleep(context.get("seconds", 0))
    return {"values": np.arange(5) ** 2 + 10 * shard, "name": np.array(f"shard {shard}")}


def name_process(context, shard):
    """Return the process that makes the part."""
    time.sleep(0.05)
    return {"process": np.array(os.getpid())}


def list_processes(folder, shards, backend):
    """Return the processes that made the parts of a job."""
    parts = run_shards(Job("processes", name_process, None, shards, {}), folder, backend)
    return {int(part["process"]) for part in parts.each()}


def counting(shards=8, **context):
    return Job("squares", squares, context, shards, {"power": 2})


def joined(parts):
    return {
        "values": np.concatenate([part["values"] for part in parts]),
        "name": np.array("+".join(str(part["name"]) for part in parts)),
    }


def contents(folder):
    # A killed worker may leave an unfinished file.
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    return {file.name: file.read_bytes() for file in files}


@contextlib.contextmanager
def driver_with_parts(folder, backend, count, patience=240):
    """Start a driver of the job, and yield it once so many parts exist; it is killed at the end."""
    script = f"""
        from pathlib import Path
        from support.counting_job import counting
        from shiftproof.shards import Local, Ray, run_shards
        run_shards(counting(seconds=0.3), Path({str(folder)!r}), {backend})
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(words, env=environment, **quiet)
    try:
        end = time.monotonic() + patience
        while len(list(folder.glob("part-*.npz"))) < count:
            assert driver.poll() is None, "the driver ended before it was killed"
            assert time.monotonic() < end, "no parts came"
            time.sleep(0.02)
        yield driver
    finally:
        driver.kill()
        driver.wait()
