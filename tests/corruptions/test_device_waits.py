"""What the torch path asks of the host: nothing that waits for the device, nothing for each image."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import (  # noqa: E402
    DataDependentOutputException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from shiftproof.corruptions.torch import filters  # noqa: E402
from shiftproof.corruptions.torch.filters import copy_to_device  # noqa: E402
from shiftproof.corruptions.torch.table import FUNCTIONS, corrupt_on_device  # noqa: E402
from shiftproof.corruptions.torch.weather import GROWTH, _grow  # noqa: E402
from shiftproof.rng import generator  # noqa: E402

ALL = list(FUNCTIONS)
ASKS = {"_local_scalar_dense", "equal", "nonzero", "bincount", "masked_select", "unique"}
"""Operations whose answer the host has to wait for."""

DRAWS = {"uniform_", "normal_", "poisson"}
"""What stands once for each image, since each has a generator of its own."""

STREAKS = ("motion_blur", "snow")
"""What takes as many operations as the longest streak of a batch has pixels, which its angle says."""


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


@pytest.mark.parametrize("name", [name for name in ALL if name not in STREAKS])
def test_operations_do_not_grow_with_the_batch(name):
    few, many = record(name, 5, 2), record(name, 5, 6)
    grown = {operation for operation in many if many[operation] > few[operation]}
    # A photograph of ice is cut for each image.
    cuts = {"slice", "copy_", "unbind"} if name == "frost" else set()
    views = {"unbind", "select"}
    assert grown <= DRAWS | cuts | views | ({"stack"} if name == "shot_noise" else set())


@pytest.mark.parametrize("name", STREAKS)
def test_a_streak_of_a_batch_takes_the_operations_of_its_longest(name):
    counts = record(name, 5, 6)
    # 2 x 20 + 1 pixels and three to fill up, and not as many for each image.
    assert counts["gather"] <= 2 * 20 + 4


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


@pytest.fixture
def tf32():
    """The switches of torch for TF32, put back at the end."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    allowed = matmul.allow_tf32
    yield matmul, convolution
    matmul.allow_tf32 = allowed
    matmul.fp32_precision, convolution.fp32_precision = before


def read_tf32():
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="names of torch 2.9"
)
@pytest.mark.filterwarnings("ignore:Please use the new API:UserWarning")
@pytest.mark.parametrize("names", ["older", "newer"])
def test_tf32_is_off_within_and_as_it_was_behind(names, tf32):
    matmul, convolution = tf32
    if names == "older":
        matmul.allow_tf32 = True
    else:
        matmul.fp32_precision, convolution.fp32_precision = "tf32", "tf32"
    before = read_tf32()
    assert before[0] == "tf32"
    with filters._FULL_PRODUCTS:
        # Where torch's two names for a switch differ, it refuses to multiply, and to read this.
        assert not matmul.allow_tf32
        assert "tf32" not in read_tf32()
    assert read_tf32() == before


def test_numbers_arrive_as_they_are():
    assert copy_to_device([[1, 2]], torch.device("cpu"), torch.int64).tolist() == [[1, 2]]


# ---------------------------------------------------------------- as on a GPU, without one


GPU = torch.device("cuda:7")
"""One that no machine of tests has: constants that are kept for it are of no other test's use."""


@pytest.fixture
def fake_gpu(monkeypatch):
    """Tensors of a GPU that have a shape and a device, and no numbers."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(
        filters, "_allocate", lambda sources, shape: torch.empty(len(sources), *shape, device=GPU)
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


@pytest.mark.parametrize(
    ("name", "channels"),
    [*((name, 3) for name in ALL), *((name, 1) for name in ("snow", "frost", "spatter"))],
)
def test_all_stays_on_the_gpu(name, channels, fake_gpu):
    # An operation on tensors of two devices, or one that asks for numbers, raises here.
    sources = [filters.Draws(generator(0, name, key), torch.Generator()) for key in "ab"]
    images = torch.empty(2, channels, 24, 31, device=GPU)
    result = FUNCTIONS[name](images, 5, sources)
    assert result.device == GPU
    assert result.shape == images.shape


def test_what_asks_for_numbers_raises_there(fake_gpu):
    with pytest.raises(DataDependentOutputException):
        bool(torch.empty(2, device=GPU).sum() > 0)
