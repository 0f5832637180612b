"""A segmenter whose batch norm adapts: the statistics of the images, and nothing else changed."""

import numpy as np
import pytest

from shiftproof import Segmenter, bench
from shiftproof.adapt import AdaptedSegmenter
from shiftproof.data import open_segmentation_data
from shiftproof.errors import InputError, ModelError
from shiftproof.models import NormalizedSegmentation
from shiftproof.models.structure import fingerprint_weights
from support.label_map_trees import NAMES, nearest_color, write_folders

torch = pytest.importorskip("torch")


class Normed(torch.nn.Module):
    """Batch norm of the three channels, which are the logits."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3, affine=False)

    def forward(self, images):
        return self.norm(images)


def segmenter():
    return Segmenter(Normed(), NAMES, convention=NormalizedSegmentation((0, 0, 0), (1, 1, 1)))


def test_statistics_are_those_of_the_images():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (6, 5, 3), dtype=np.uint8) for _ in range(4)]
    for image in images:
        image[..., 1] //= 3
    plain = segmenter()
    before = fingerprint_weights(plain.module)
    adapted = AdaptedSegmenter(plain, "batchnorm:prior=0")
    found = adapted.predict(images, batch_size=4)
    values = np.stack(images) / 255
    by_hand = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + 1e-5)
    assert np.array_equal(np.stack(found), by_hand.argmax(-1))
    assert not np.array_equal(np.stack(plain.predict(images)), by_hand.argmax(-1))
    assert fingerprint_weights(plain.module) == before


def test_what_learns_from_one_answer_an_image_is_refused():
    with pytest.raises(InputError, match="expected batchnorm, actmad, ent, rpl, with guard"):
        AdaptedSegmenter(segmenter(), "lame")
    with pytest.raises(ModelError, match="A function hides its network"):
        AdaptedSegmenter(Segmenter(nearest_color, NAMES))


def test_adapted_ones_stand_beside_the_first_model(tmp_path):
    run = bench.run(
        segmenter(), open_segmentation_data(write_folders(tmp_path / "data"), classes=list(NAMES)),
        adapters=["batchnorm:prior=0"], out=tmp_path / "run", corruptions=["fog"], severities=[3],
        workers=0, show_progress=False,
    )  # fmt: skip
    assert [model.name for model in run.scores.models] == ["source", "batchnorm-prior-0"]
    assert run.scores.differences[0].against == "source"
