"""A job that notes on which machine of a cluster its parts are made, and waits for machines there."""

import time
from pathlib import Path

import numpy as np

PATIENCE = 120.0


def wait_for(path, patience=PATIENCE):
    end = time.monotonic() + patience
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.05)


def need_another_machine(context, shard):
    """A part that machines known at the start make only when another has joined, and was lost."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    folder = Path(context["folder"])
    (folder / f"begun-{shard}").touch()
    if here in context["known"]:
        wait_for(folder / "joined")
    elif not (folder / "joined").exists():
        (folder / "joined").write_text(here)
        time.sleep(PATIENCE)
    return {"values": np.arange(3) + shard}
