"""A slow run to kill: python slow_run.py PHOTOS OUT does what ``run`` does, slowly."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from shiftproof import Classifier, bench
from shiftproof.data import open_data
from support.tiny import make_model, mean_colour


def run(photos, out, *, seconds=0.0, workers=0):
    def wait(batch):
        time.sleep(seconds)
        return mean_colour(batch)

    model = make_model()
    slow = Classifier(wait, model.preprocess, model.classes, name="slow")
    data = open_data(photos, classes=model.classes)
    return bench.run(
        slow, data, out=out, workers=workers, batch_size=4, corruptions=["fog", "gaussian_noise"],
        severities=[1, 3, 5],
    )  # fmt: skip


if __name__ == "__main__":
    # Imported by name, since a run records the module of its model.
    from support import slow_run

    slow_run.run(*map(Path, sys.argv[1:]), seconds=0.2, workers=1)
