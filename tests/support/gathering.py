"""Losses of several processes that share a batch."""

import json

import numpy as np
import torch
import torch.distributed as dist

from shiftproof.contrastive import AnInfoNCE, info_nce

PAIRS, DIM = 6, 3

CASES = {
    "both": {},
    "other": {"negatives": "other"},
    "hard, one anchor": {"hardness": 0.5, "symmetric": False},
    "supervised": {"labels": [0, 1, 0, 2, 1, 0]},
}


def views():
    random = np.random.default_rng(0)
    u = random.normal(size=(PAIRS, DIM))
    return u, u + 0.5 * random.normal(size=(PAIRS, DIM))


def loss_and_gradients(case, part=slice(None), *, gather=False, tile=None):
    options = dict(CASES[case])
    labels = options.pop("labels", None)
    torch.manual_seed(0)
    encoder = torch.nn.Linear(DIM, DIM, dtype=torch.float64)
    loss = AnInfoNCE(DIM, gather=gather, tile=tile, **options).double()
    u, v = (encoder(torch.tensor(view[part])) for view in views())
    value = loss(u, v, labels=None if labels is None else torch.tensor(labels)[part])
    parameters = [*encoder.parameters(), *loss.parameters()]
    return [value.detach(), *torch.autograd.grad(value, parameters)]


def far_gradients(part=slice(None), *, gather=False, dtype=torch.float64, tile=None):
    """Return the gradients of the euclidean loss of vectors around 1,000."""
    u, v = (torch.tensor(view[part] + 1000).float().to(dtype).requires_grad_() for view in views())
    loss = info_nce(u, v, temperature=1.0, space="euclidean", gather=gather, tile=tile)
    return torch.cat(torch.autograd.grad(loss, [u, v]), 1)


def write_shared(rank, world, store, out):
    """Write what the process of a rank finds, and its gradients averaged over all, to ``out``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    size = PAIRS // world
    found = {}
    for case in CASES:
        for tile in (None, 2):
            part = slice(rank * size, (rank + 1) * size)
            results = loss_and_gradients(case, part, gather=True, tile=tile)
            # As DistributedDataParallel averages gradients.
            for value in results:
                dist.all_reduce(value)
                value /= world
            found[f"{case}/{tile}"] = [value.tolist() for value in results]
    part = slice(rank * size, (rank + 1) * size)
    far = [
        (far_gradients(part, gather=True, dtype=torch.float32, tile=tile) / world).tolist()
        for tile in (None, 2)
    ]
    uneven = "none"
    try:
        loss_and_gradients("both", slice(0, 2 + rank), gather=True)
    except ValueError as error:
        uneven = str(error)
    out.write_text(json.dumps({"found": found, "far": far, "uneven": uneven}))
    dist.destroy_process_group()
