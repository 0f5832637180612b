import pytest

from shiftproof import bench
from support import blobs, tiny
from support.few_resamples import set_replicates


@pytest.fixture
def model():
    return tiny.make_model()


@pytest.fixture
def photos(tmp_path):
    return tiny.write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        set_replicates(patch, 20)
        yield


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return blobs.write_blocks(tmp_path_factory.mktemp("blocks") / "data")


@pytest.fixture(scope="module")
def finished(blocks, few_resamples, tmp_path_factory):
    """The run of the detector over ``blobs.GRID``."""
    return bench.run(
        blobs.make_detector(), blocks, task=bench.Detection(),
        out=tmp_path_factory.mktemp("run") / "run", **blobs.GRID,
    )  # fmt: skip
