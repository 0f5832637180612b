"""A small Fashion-MNIST: ten patterns that a network of 8 channels learns in three epochs."""

import gzip

import numpy as np

from shiftproof_reproduce import bn_adaptation, self_learning
from shiftproof_reproduce.training import Training

TRAINING = Training(epochs=3, batch_size=50, peak_rate=0.1, widths=(8, 8, 8))

BN_PLAN = bn_adaptation.Plan(
    training=TRAINING,
    good_enough=0.6,
    corruptions=("gaussian_noise", "contrast"),
    holdout=("saturate",),
    severities=(3,),
    images=48,
    batch_size=16,
    set_passes=1,
    holdout_images=16,
    holdout_sizes=(8,),
    priors=("0", "16", "auto"),
    sizes=(2, 16),
    few_images=8,
    size_images=32,
)

SL_PLAN = self_learning.Plan(
    training=TRAINING,
    good_enough=0.6,
    corruptions=("gaussian_noise", "contrast"),
    holdout=("saturate",),
    severities=(3,),
    images=32,
    batch_size=16,
    epochs=1,
    losses=("ent", "hard", "rpl"),
    repeated=("ent", "rpl"),
    rates=(0.01, 0.1),
    rdumb_every=2,
    trap_corruptions=("contrast",),
    trap_images=16,
    single_images=4,
)


def idx_bytes(array):
    """Return an array of bytes in the idx format."""
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_fashion(folder, train=600, test=120):
    """Write the four files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    patterns = random.integers(0, 255, (10, 7, 7))
    for part, count in (("train", train), ("t10k", test)):
        labels = random.integers(0, 10, count)
        images = np.kron(patterns[labels], np.ones((4, 4))) + random.normal(0, 20, (count, 28, 28))
        for name, array in (
            ("images-idx3", images.clip(0, 255).astype(np.uint8)),
            ("labels-idx1", labels),
        ):
            path = folder / f"{part}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(array), 1))
    return folder
