"""A run that goes on from Python does not read thousands of sentences again."""

import pytest

from shiftproof import bench
from shiftproof.models.image_text import class_vectors
from support.tiny import write_photos

pytestmark = pytest.mark.usefixtures("few_resamples")


def test_a_run_that_goes_on_takes_the_vectors_that_it_kept(
    image_text_models, tmp_path, monkeypatch
):
    photos = write_photos(tmp_path / "photos", per_class=1)
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\n")
    spec = f"transformers:{image_text_models / 'clip'}?classes={names}&templates=simple"
    grid = {"corruptions": ["brightness"], "severities": [1], "workers": 0}
    first = bench.run(spec, photos, out=tmp_path / "run", **grid)

    def refuse(*values):
        raise AssertionError

    monkeypatch.setattr(class_vectors, "_average", refuse)
    for task in (None, bench.Classification()):
        again = bench.run(spec, photos, task=task, out=tmp_path / "run", **grid)
        assert again.records().equals(first.records())
    with pytest.raises(AssertionError):
        bench.run(spec, photos, out=tmp_path / "other", **grid)
