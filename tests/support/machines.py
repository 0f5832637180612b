"""A cluster of local machines, and a job that waits for machines to join and leave."""

import time
from pathlib import Path

import numpy as np

PATIENCE = 240.0
"""Seconds; a machine with much to do may need minutes to start another one's processes."""

PATIENT = {
    # A machine that is gone refuses connections: it is given up after three seconds. A busy machine
    # answers late, for which it has 10 seconds each time: it is never given up.
    "health_check_period_ms": 100,
    "health_check_failure_threshold": 30,
}


def start_cluster(of_each, attempts=3):
    """Start two machines with the same options."""
    try:
        return _start_both(of_each)
    except Exception:
        # Ray gives a machine 30 seconds; late starters end with this process.
        if attempts == 1:
            raise
        return start_cluster(of_each, attempts - 1)


def _start_both(of_each):
    from ray.cluster_utils import Cluster

    head = {**of_each, "include_dashboard": False, "_system_config": PATIENT}
    started = Cluster(initialize_head=True, head_node_args=head)
    add_machine(started, of_each)
    return started


def add_machine(cluster, of_each):
    """Start another machine, and wait until the others know it."""
    # Ray's own waiting ends after 30 seconds.
    node = cluster.add_node(wait=False, **of_each)
    cluster.wait_for_nodes(timeout=PATIENCE)
    return node


def wait_for(path, patience=PATIENCE):
    end = time.monotonic() + patience
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come"
        time.sleep(0.05)


def need_another_machine(context, shard):
    """Make a part on an initial machine only after another machine has joined and was lost."""
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
