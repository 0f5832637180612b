"""A training of one second: two mixed latents, and an encoder with one hidden layer."""

import json

import numpy as np
import torch

from shiftproof.contrastive import AnInfoNCE
from shiftproof.contrastive.mixing import InvertibleMLP
from shiftproof.contrastive.process import PairProcess
from shiftproof.contrastive.train import Training, train
from shiftproof.metrics import linear_r2

PROCESS = PairProcess((30.0, 20.0, 20.0))
MIXING = InvertibleMLP(3, layers=2, seed=1)
TRAINING = Training(steps=60, rate=1e-2, check_every=10, watch="r2")


def observed(latents):
    return torch.tensor(MIXING(latents), dtype=torch.float32)


def batches(step):
    z, partner = PROCESS.pairs(64, seed=0, step=step)
    return observed(z), observed(partner)


def measure(encoder, loss):
    z, _ = PROCESS.pairs(400, seed=99)
    return {"r2": linear_r2(encoder(observed(z)).numpy(), z).mean}


def fresh(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = torch.nn.Sequential(
            torch.nn.Linear(3, 32),
            torch.nn.BatchNorm1d(32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 3),
        )
    return encoder, AnInfoNCE(3)


def run(checkpoint=None, training=TRAINING, batches=batches, **options):
    return train(*fresh(), batches, training, measure=measure, checkpoint=checkpoint, **options)


def numbers(trained):
    """Return all results of a training."""
    state = {**trained.encoder.state_dict(), **trained.loss.state_dict()}
    return {
        "weights": {name: np.asarray(value).ravel().tolist() for name, value in state.items()},
        "history": [[check.step, check.loss, check.figures] for check in trained.history],
    }


def write_numbers(*pairs):
    """Train to each (checkpoint, file), and write all results to the file: to be killed at any time."""
    torch.set_num_threads(1)
    for checkpoint, out in pairs:
        out.write_text(json.dumps(numbers(run(checkpoint))))
