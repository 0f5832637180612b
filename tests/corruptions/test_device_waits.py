"""What the torch path asks of the host: nothing that waits for the device, nothing for each image."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from shiftproof.corruptions import COMMON, HOLDOUT  # noqa: E402
from shiftproof.corruptions.torch.filters import send  # noqa: E402
from shiftproof.corruptions.torch.table import corrupt_on_device  # noqa: E402
from shiftproof.corruptions.torch.weather import GROWTH, _grow  # noqa: E402

ALL = [*COMMON, *HOLDOUT]
ASKS = {"_local_scalar_dense", "equal", "nonzero", "bincount", "masked_select", "unique"}
"""Operations whose answer the host has to wait for."""

DRAWS = {"uniform_", "normal_", "poisson"}
"""What stands once for each image, since each has a generator of its own."""


class Recorder(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.counts[operation._schema.name.partition("::")[2]] += 1
        return operation(*args, **(kwargs or {}))


def record(name, severity, images):
    batch = torch.randint(0, 256, (images, 3, 24, 31), dtype=torch.uint8)
    keys = [str(number) for number in range(images)]
    corrupt_on_device(batch, name, severity, keys, 0)  # what is kept of constants is made here
    with Recorder() as recorder:
        corrupt_on_device(batch, name, severity, keys, 0)
    return recorder.counts


def test_the_recorder_sees_what_waits():
    with Recorder() as recorder:
        bool((torch.ones(3) > 0).all())
        torch.bincount(torch.ones(3, dtype=torch.int64))
    assert recorder.counts.keys() >= {"_local_scalar_dense", "bincount"}


@pytest.mark.parametrize("name", ALL)
def test_nothing_waits_for_the_device(name):
    # Water (severity 2) asks whether edges still grow, once in so many steps; mud does not.
    counts = record(name, 2, 3)
    asked = {operation: counts[operation] for operation in ASKS if counts[operation]}
    if name == "spatter":
        assert asked.pop("equal") <= 1 + 24 * 31 // GROWTH
    assert asked == {}


@pytest.mark.parametrize("name", ALL)
def test_operations_do_not_grow_with_the_batch(name):
    few, many = record(name, 5, 2), record(name, 5, 6)
    if name == "motion_blur" or name == "snow":
        pytest.skip("a streak has as many taps as its angle needs")
    grown = {operation for operation in many if many[operation] > few[operation]}
    # A photograph of ice is cut for each image.
    cuts = {"slice", "copy_", "unbind"} if name == "frost" else set()
    views = {"unbind", "select"}
    assert grown <= DRAWS | cuts | views | ({"stack"} if name == "shot_noise" else set())


@pytest.mark.parametrize("name", ["motion_blur", "snow"])
def test_a_streak_of_a_batch_takes_the_operations_of_its_longest(name):
    counts = record(name, 5, 6)
    # 2 x 15 + 1 pixels and a few to fill up, and not as many for each image.
    assert counts["gather"] <= 2 * 15 + 4


def test_edges_grow_to_their_ends():
    weak = torch.zeros(1, 1, 9, 60, dtype=torch.bool)
    weak[0, 0, 4, :50] = True
    weak[0, 0, 0, 55] = True
    strong = torch.zeros_like(weak)
    strong[0, 0, 4, 0] = True
    grown = _grow(strong, weak)
    assert grown[0, 0, 4, :50].all()
    assert int(grown.sum()) == 50


@pytest.mark.parametrize("name", ["gaussian_blur", "pixelate", "defocus_blur"])
def test_the_callers_autocast_changes_no_pixel(name):
    batch = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    plain = corrupt_on_device(batch, name, 3, ["a", "b"], 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(corrupt_on_device(batch, name, 3, ["a", "b"], 0), plain)


def test_numbers_arrive_as_they_are():
    assert send([[1, 2]], torch.device("cpu"), torch.int64).tolist() == [[1, 2]]
