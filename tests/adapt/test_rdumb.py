import math

import numpy as np
import pytest
import torch

from shiftproof.adapt import BatchNorm, RDumb, SelfLearning, make_adapter
from shiftproof.errors import ImageError, InputError
from support.small_networks import classifier, convolutional, noise, pictures, portrait

BATCHES = [noise(4, seed=seed) for seed in range(7)]


def learner():
    return SelfLearning(convolutional(), loss="ent", lr=0.1, momentum=0.9)


def test_it_is_a_fresh_adapter_every_so_many_batches():
    adapter = RDumb(learner(), every=3)
    fresh = [learner() for _ in range(3)]
    for position, batch in enumerate(BATCHES):
        assert torch.equal(adapter(batch), fresh[position // 3](batch))
    assert [(e.kind, e.batch) for e in adapter.events] == [("reset", 3), ("reset", 6)]
    assert portrait(adapter)["1.weight"] == portrait(fresh[2])["1.weight"]


def test_what_it_wraps_tells_by_the_batch_of_the_whole_stream():
    adapter = RDumb(learner(), every=3)
    broken = BATCHES[0].clone()
    broken[0] = math.nan
    for batch in (BATCHES[0], broken, BATCHES[0], BATCHES[0], broken):
        adapter(batch)
    events = [(event.kind, event.batch) for event in adapter.events]
    assert events == [("skipped", 1), ("reset", 3), ("skipped", 4)]
    adapter.reset()
    assert list(adapter.events) == []


def test_frozen_and_empty_batches_do_not_count():
    adapter = RDumb(SelfLearning(classifier(), lr=0.1), every=1)
    adapter.predict(pictures())
    adapter.predict(pictures(0))
    with adapter.frozen():
        for _ in range(3):
            adapter.predict(pictures())
    assert not adapter.events
    adapter.predict(pictures())
    assert [event.batch for event in adapter.events] == [1]


def test_a_batch_that_fails_neither_counts_nor_resets():
    adapter = RDumb(SelfLearning(classifier(), lr=0.1), every=1)
    adapter.predict(pictures())
    before = portrait(adapter)
    with pytest.raises(ImageError):
        adapter.predict(np.zeros((2, 9, 9, 3), np.uint8))
    for broken in (None, torch.tensor(1.0)):
        with pytest.raises(InputError):
            adapter(broken)
    assert portrait(adapter) == before
    assert not adapter.events


def test_a_state_goes_on_where_it_stopped():
    adapter, again = (RDumb(learner(), every=3) for _ in range(2))
    for batch in BATCHES[:5]:
        adapter(batch)
    again.load_state(adapter.state())
    for batch in BATCHES[5:]:
        assert torch.equal(adapter(batch), again(batch))
    assert [event.batch for event in again.events] == [6]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "no 'rdumb/batches'"),
        (torch.tensor([4, 9]), "4 of 9 batches"),
        (torch.tensor([2, 1]), "2 of 1 batch since"),
        (torch.tensor([-1, 5]), "-1 of 5 batches"),
        (torch.tensor([1]), "shape"),
        (torch.tensor([1.0, 2.0]), "float32"),
    ],
)
def test_bad_states_are_refused_and_change_nothing(count, words):
    adapter = RDumb(learner(), every=3)
    adapter(BATCHES[0])
    before = portrait(adapter)
    state = adapter.state()
    del state["rdumb/batches"]
    if count is not None:
        state["rdumb/batches"] = count
    with pytest.raises(InputError, match=words):
        adapter.load_state(state)
    assert portrait(adapter) == before


@pytest.mark.parametrize("every", [0, -1, 1.5, True, None])
def test_other_periods_are_refused(every):
    with pytest.raises(InputError, match="every: expected a whole number, 1 or more"):
        RDumb(learner(), every=every)


def test_a_model_is_no_adapter():
    with pytest.raises(InputError, match=r"got Sequential; .* RDumb\(SelfLearning\(model\)\)"):
        RDumb(convolutional())


def test_it_stands_before_others_in_a_spec():
    adapter = make_adapter("rdumb:every=5+batchnorm:prior=1e+1", classifier())
    assert isinstance(adapter.inner, BatchNorm)
    assert (adapter.every, adapter.inner.prior) == (5, 10)
    settings = adapter.settings
    assert settings["inner"]["adapter"] == "batchnorm"
    assert settings["classifier"] == classifier().settings
    assert "classifier" not in settings["inner"]
    with pytest.raises(InputError, match=r"wrapped, as in .rdumb\+rpl"):
        make_adapter("rdumb", classifier())
    with pytest.raises(InputError, match="can stand before a plus"):
        make_adapter("lame+batchnorm", classifier())
