"""Processes in which torch is imported already: forked from one that does nothing else.

For tests of several processes, or of one that is killed, where their start is not what is tested: to
import torch takes longer than what they do.
"""

import multiprocessing

PRELOADED = [
    *("pytest", "torch.distributed", "shiftproof.adapt", "shiftproof.metrics"),
    *("shiftproof.contrastive.train", "shiftproof.contrastive.mixing", "safetensors.torch"),
    "torch._dynamo",  # what torch imports for the first optimizer, in half of the time of all
]


def start_process(function, *arguments):
    """Start ``function(*arguments)`` in a process, which ends with this one; return the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def wait_for(*processes):
    """Wait for processes to end, and return their exit codes."""
    for process in processes:
        process.join(240)
    return [process.exitcode for process in processes]
