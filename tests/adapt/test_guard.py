"""The guard: what it objects to, when it changes its mind, and real streams built to break it."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from shiftproof.adapt import BatchNorm, Guard, SelfLearning, load
from shiftproof.adapt.safeguards import guard
from shiftproof.adapt.safeguards.guard import (
    Signals,
    compare_answers,
    find_objection,
    is_convincing,
)
from shiftproof.errors import InputError


def signals(**changes):
    usual = {
        "confidence": 0.8, "source_confidence": 0.6, "changed": 0.5,
        "spread": 2.2, "source_spread": 1.9, "max_spread": math.log(10),
    }  # fmt: skip
    return Signals(**{**usual, **changes})


class TestSignals:
    def test_by_hand(self):
        source = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4]], np.float32)
        adapted = np.array([[0.6, 0.4, 0.0], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]], np.float32)
        found = compare_answers(source, adapted)
        assert found.source_confidence == pytest.approx(0.7)
        assert found.confidence == pytest.approx(0.7)
        assert found.changed == pytest.approx(1 / 3)
        assert found.spread == pytest.approx(math.log(3))
        # Answers 0, 1, 1: -(1/3 log 1/3 + 2/3 log 2/3)
        assert found.source_spread == pytest.approx(0.6365141682948128)
        assert found.max_spread == pytest.approx(math.log(3))

    def test_few_images_cannot_spread_over_many_classes(self):
        rows = np.full((4, 1000), 0.001, np.float32)
        assert compare_answers(rows, rows).max_spread == pytest.approx(math.log(4))


class TestConvincing:
    def test_sure_and_wide(self):
        collapsed_source = {"source_spread": 0.1, "changed": 0.9}
        assert is_convincing(signals(confidence=0.9, source_confidence=0.9, **collapsed_source))
        assert not is_convincing(signals(confidence=0.75, **collapsed_source))
        assert not is_convincing(signals(confidence=0.9, spread=2.0, **collapsed_source))
        assert not is_convincing(signals(confidence=0.85, source_confidence=0.95))


class TestObjection:
    def test_what_helps_is_trusted(self):
        assert find_objection(signals()) is None

    def test_nothing_changed_is_no_harm(self):
        same = {"confidence": 0.9, "source_confidence": 0.9, "changed": 0.0, "spread": 1.9}
        assert find_objection(signals(**same)) is None

    def test_answers_that_collapse(self):
        assert "collapse to few classes" in find_objection(signals(confidence=1.0, spread=1.0))

    def test_changed_answers_without_confidence(self):
        assert "50 % of the answers differ" in find_objection(signals(confidence=0.5))

    def test_an_unsure_source_need_not_be_beaten_by_much(self):
        assert find_objection(signals(confidence=0.6)) is None

    def test_a_sure_source_has_to_be_beaten(self):
        assert find_objection(signals(confidence=0.9, source_confidence=0.9)) is not None
        assert find_objection(signals(confidence=1.0, source_confidence=0.85, changed=0.2)) is None

    def test_so_has_a_source_that_sees_few_classes(self):
        assert find_objection(signals(confidence=0.6, source_spread=1.0)) is not None

    def test_margin(self):
        little = signals(confidence=0.58)
        assert find_objection(little) is not None
        assert find_objection(little, margin=0.03) is None

    def test_not_a_number(self):
        assert "not finite" in find_objection(signals(confidence=math.nan))


LOG_10 = math.log(10)

BOUNDARIES = [
    # 95 % of a source's spread of 2 is 1.9.
    (find_objection, {"source_spread": 2.0, "spread": 1.91}, True),
    (find_objection, {"source_spread": 2.0, "spread": 1.89}, False),
    # Half of the answers changed cost 0.3 / 2 = 0.15 of confidence, of which 0.01 is let off.
    (find_objection, {"source_confidence": 0.8, "confidence": 0.945}, True),
    (find_objection, {"source_confidence": 0.8, "confidence": 0.935}, False),
    # A source of 0.7 has to be paid for, one below has not.
    (find_objection, {"source_confidence": 0.69, "confidence": 0.69}, True),
    (find_objection, {"source_confidence": 0.71, "confidence": 0.71}, False),
    # So has one that gives fewer answers than 70 % of log 10 nats.
    (find_objection, {"confidence": 0.6, "source_spread": 0.71 * LOG_10}, True),
    (find_objection, {"confidence": 0.6, "source_spread": 0.69 * LOG_10}, False),
    # 90 % of log 10 is wide, and 0.8 is convincing.
    (is_convincing, {"confidence": 0.9, "spread": 0.91 * LOG_10}, True),
    (is_convincing, {"confidence": 0.9, "spread": 0.89 * LOG_10}, False),
    (is_convincing, {"confidence": 0.81}, True),
    (is_convincing, {"confidence": 0.79}, False),
]
"""A judgement, the signals that differ from the usual, and whether the adapter is to be trusted."""


def holds(judge, changes, trusted):
    said = judge(signals(**changes))
    return (said is None if judge is find_objection else said) is trusted


THRESHOLDS = [name for name, value in vars(guard).items() if isinstance(value, float)]


class TestThresholds:
    @pytest.mark.parametrize(("judge", "changes", "trusted"), BOUNDARIES)
    def test_each_lies_where_it_is_said_to(self, judge, changes, trusted):
        assert holds(judge, changes, trusted)

    @pytest.mark.parametrize("factor", [2 / 3, 4 / 3, 0.94, 1.06])
    @pytest.mark.parametrize("name", THRESHOLDS)
    def test_none_could_move_unseen(self, monkeypatch, name, factor):
        """A threshold without a case of its own above could be any number."""
        monkeypatch.setattr(guard, name, factor * getattr(guard, name))
        assert not all(holds(*case) for case in BOUNDARIES)

    def test_there_are_six(self):
        assert len(THRESHOLDS) == 6


# ---------------------------------------------------------------- a real network, real traps


def train_network():
    """A small network with batch norm on scikit-learn's digits."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float()[:, None]
    labels = torch.from_numpy(digits.target).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(6):
            for rows in torch.randperm(1000).split(50):
                loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net.eval(), images[1000:], labels[1000:]


@pytest.fixture(scope="module")
def digits():
    return train_network()


def error(predict, images, labels, batch):
    answers = [predict(part).argmax(1) for part in images.split(batch)]
    return 100 * float((torch.cat(answers) != labels).float().mean())


def bright(images):
    return 0.5 + 0.5 * images


def streams(images, labels):
    by_class = labels.argsort(stable=True)
    yield "clean", images, labels, 64
    yield "single images", images[:120], labels[:120], 1
    yield "one class", images[labels == 3], labels[labels == 3], 16
    yield "sorted", images[by_class], labels[by_class], 32
    parts = [images, bright(images), 0.4 * images, images.flip(-1)]
    yield "non-stationary", torch.cat(parts), labels.repeat(len(parts)), 32


ADAPTERS = {
    "batch statistics": lambda net: BatchNorm(net, prior=0),
    "entropy, 100 times the rate": lambda net: SelfLearning(
        net, loss="ent", lr=1.0, momentum=0.9, prior="measured"
    ),
    "robust labels, 100 times the rate": lambda net: SelfLearning(
        net, lr=1.0, momentum=0.9, prior="measured"
    ),
}


@pytest.fixture(scope="module")
def source_errors(digits):
    """The errors of the model as it is, by the name of the stream."""
    net, images, labels = digits
    with torch.no_grad():
        return {stream: error(net, x, y, batch) for stream, x, y, batch in streams(images, labels)}


@pytest.mark.parametrize("name", ADAPTERS)
def test_never_ends_more_than_a_point_above_the_source(digits, source_errors, name):
    net, images, labels = digits
    harmed = 0
    for stream, x, y, batch in streams(images, labels):
        source = source_errors[stream]
        unguarded = error(ADAPTERS[name](net), x, y, batch)
        guarded = error(Guard(ADAPTERS[name](net)), x, y, batch)
        assert guarded <= source + 1, f"{stream}: source {source}, guarded {guarded}"
        harmed += unguarded > source + 10
    assert harmed >= 2  # else the streams would prove nothing


def test_what_helps_is_let_through(digits):
    net, images, labels = digits
    x = bright(images)
    with torch.no_grad():
        source = error(net, x, labels, 64)
    unguarded = error(BatchNorm(net, prior=0), x, labels, 64)
    guard = Guard(BatchNorm(net, prior=0))
    assert unguarded < source - 10
    assert error(guard, x, labels, 64) == pytest.approx(unguarded, abs=2)
    assert guard.is_trusted


# ---------------------------------------------------------------- when it changes its mind


def collapsing(net):
    return SelfLearning(net, loss="ent", lr=1.0, momentum=0.9)


class TestTrust:
    def test_events_tell_what_happened_and_reset_forgets_them(self, digits):
        net, images, _ = digits
        guard = Guard(collapsing(net), probation=32, window=64)
        first = [guard(part) for part in images.split(32)]
        kinds = [event.kind for event in guard.events]
        assert "source answers" in kinds or "rolled back" in kinds
        assert all(0 <= event.batch < len(first) for event in guard.events)
        guard.reset()
        assert guard.events == ()
        assert not guard.is_trusted
        again = [guard(part) for part in images.split(32)]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))

    def test_small_batches_begin_with_the_source(self, digits):
        net, images, _ = digits
        x = bright(images)
        guard = Guard(BatchNorm(net, prior=0), probation=64)
        with torch.no_grad():
            expected = net(x[:32])
        torch.testing.assert_close(guard(x[:32]), expected)
        assert not guard.is_trusted
        guard(x[32:64])
        assert guard.is_trusted

    def test_merged_is_the_source_until_there_is_trust(self, digits):
        net, images, _ = digits
        x = bright(images)
        guard = Guard(BatchNorm(net, prior=0), probation=64)
        guard(x[:32])
        merged = guard.merge()
        assert all(torch.equal(a, b) for a, b in zip(
            merged.state_dict().values(), net.state_dict().values(), strict=True
        ))  # fmt: skip
        outputs = guard(x[32:96])
        assert guard.is_trusted
        torch.testing.assert_close(guard.merge()(x[32:96]), outputs)

    def test_rolls_back_to_the_last_good_state(self, digits):
        net, images, _ = digits
        x = bright(images)
        guard = Guard(SelfLearning(net, loss="rpl", lr=1e-3), probation=32, window=64)
        for part in x[:256].split(32):
            guard(part)
        assert guard.is_trusted
        good = {name: value.clone() for name, value in guard._good.items()}
        with torch.no_grad():
            for parameter in guard.inner.parameters():
                parameter.normal_()  # it goes astray
        guard(x[256:288])
        assert not guard.is_trusted
        assert guard.events[-1].kind == "rolled back"
        state = guard.inner.state()
        assert all(torch.equal(state[name], value) for name, value in good.items())

    def test_good_states_are_renewed(self, digits):
        net, images, _ = digits
        guard = Guard(SelfLearning(net, loss="rpl", lr=1e-3), probation=32, window=64)
        x = bright(images)
        guard(x[:32])
        first = guard._good
        guard(x[32:64])
        assert guard._good is first
        guard(x[64:96])
        name = next(name for name in first if name.startswith("parameter/"))
        assert not torch.equal(guard._good[name], first[name])

    def test_who_went_astray_has_to_wait_longer_for_trust(self, digits):
        net, images, _ = digits
        x = bright(images)
        guard = Guard(BatchNorm(net, prior=0), probation=32, window=128)
        guard(x[:32])
        assert guard.is_trusted
        with torch.no_grad():
            while guard.is_trusted:
                guard(images[:1].neg())  # nothing like it
        waited = 0
        while not guard.is_trusted:
            guard(x[waited : waited + 32])
            waited += 32
        assert waited == 64

    def test_a_broken_batch_is_answered_by_the_source(self, digits):
        net, images, _ = digits
        guard = Guard(BatchNorm(net, prior=0), probation=32)
        guard(bright(images)[:64])
        assert guard.is_trusted
        broken = images[:8].clone()
        broken[0, 0, 0, 0] = math.nan
        with torch.no_grad():
            torch.testing.assert_close(guard(broken), net(broken), equal_nan=True)
        assert not guard.is_trusted
        assert "not finite" in guard.events[-1].reason

    def test_frozen_changes_no_trust(self, digits):
        net, images, _ = digits
        guard = Guard(collapsing(net), probation=32, window=64)
        with guard.frozen():
            for part in images.split(32):
                guard(part)
        assert guard.events == ()
        assert not guard.is_trusted

    def test_good_states_are_on_disk(self, digits, tmp_path):
        net, images, _ = digits
        path = tmp_path / "good.safetensors"
        guard = Guard(SelfLearning(net, lr=1e-3), probation=32, window=64, save_to=path)
        for part in bright(images)[:160].split(32):
            guard(part)
        again = SelfLearning(net, lr=1e-3)
        load(again, path)
        good = guard._good
        assert all(torch.equal(good[name], value) for name, value in again.state().items())

    def test_goes_on_from_its_state(self, digits):
        net, images, _ = digits
        x = bright(images)[:320]
        whole = Guard(SelfLearning(net, loss="ent", lr=0.1), probation=32, window=64)
        expected = [whole(part) for part in x.split(32)]
        first = Guard(SelfLearning(net, loss="ent", lr=0.1), probation=32, window=64)
        for part in x[:160].split(32):
            first(part)
        second = Guard(SelfLearning(net, loss="ent", lr=0.1), probation=32, window=64)
        second.load_state(first.state())
        for part, outputs in zip(x[160:].split(32), expected[5:], strict=True):
            assert torch.equal(second(part), outputs)


@pytest.mark.parametrize(
    "options", [{"window": 0}, {"probation": 0}, {"probation": 300}, {"margin": 2}, {"margin": -1}]
)
def test_numbers_out_of_range_are_refused(digits, options):
    with pytest.raises(InputError, match=next(iter(options))):
        Guard(BatchNorm(digits[0]), **options)


def test_what_the_adapter_tells_is_told_too(digits):
    net, images, _ = digits
    guard = Guard(SelfLearning(net, lr=1e-3), probation=8)
    broken = images[:8].clone()
    broken[0, 0, 0, 0] = math.nan
    guard(images[:8])
    guard(broken)
    assert ("skipped", 1) in [(event.kind, event.batch) for event in guard.events]


def test_a_model_is_no_adapter(digits):
    with pytest.raises(InputError, match=r"as in Guard\(SelfLearning\(model\)\)"):
        Guard(digits[0])
