"""The router: who answers and why, labels, experts that fail, and real streams built to mislead it."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import BatchNorm, Router, load, make_adapter, save
from shiftproof.adapt.safeguards.cautions import list_cautions
from shiftproof.errors import InputError, LabelError, UnknownNameError
from support.small_networks import classifier, convolutional, noise, pictures, with_layer_norm

pytestmark = pytest.mark.usefixtures("one_thread")


class Failing(nn.Module):
    """Takes the place of an expert's forward pass."""

    def __call__(self, *_):
        raise RuntimeError("out of luck\nmore")


class Stopping(nn.Module):
    """Likewise, where a user interrupts."""

    def __call__(self, *_):
        raise KeyboardInterrupt


def far_away():
    """A network that is sure of one class: the first channel is ten below its mean."""
    module = nn.Sequential(
        nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4, bias=False)
    ).eval()
    module[0].running_mean[0] = 10
    signs = [[1, 1, 0], [1, -1, 0], [-1, 0, 1], [-1, 0, -1]]
    module[3].weight.data.copy_(50 * torch.tensor(signs))
    return module


def failing(adapter):
    adapter.predict = Failing()
    return adapter


def fixed(shift):
    """Make an adapter whose answers are the source's moved by so many classes."""

    def make(model):
        adapter = BatchNorm(model, prior=math.inf)
        plain = adapter.predict
        adapter.predict = lambda images: np.roll(plain(images), shift, axis=1)
        return adapter

    make.__qualname__ = f"fixed{shift}"
    return make


# ---------------------------------------------------------------- how it is written


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("router", ["source", "batchnorm", "rpl"]),
        ("router:experts=batchnorm", ["source", "batchnorm"]),
        (
            "router:experts=batchnorm:prior=0+guard+rdumb:every=9+ent:lr=1e-3,momentum=0.9+lame",
            ["source", "batchnorm:prior=0", "guard+rdumb:every=9+ent:lr=1e-3,momentum=0.9", "lame"],
        ),
    ],
)
def test_a_text_names_its_experts(spec, names):
    assert make_adapter(spec, classifier()).experts == names


def test_wrappers_stand_before_it():
    guarded = make_adapter("guard+router:experts=batchnorm+ent", classifier())
    assert guarded.inner.experts == ["source", "batchnorm", "ent"]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("router:experts=", UnknownNameError, "Unknown adapter ''"),
        ("router:experts=batchnorm+batchnorm", InputError, "'batchnorm' occurs twice"),
        ("router:experts=bachnorm", UnknownNameError, "batchnorm"),
        ("router:experts=batchnorm+guard", InputError, "expected an adapter that is wrapped"),
        ("router:expert=rpl", UnknownNameError, "experts"),
        ("batchnorm+router", InputError, "can stand before a plus"),
    ],
)
def test_texts_that_are_refused(spec, error, words):
    with pytest.raises(error, match=words):
        make_adapter(spec, classifier())


@pytest.mark.parametrize("experts", ["batchnorm", [], 3, [lambda model: model]])
def test_experts_that_are_none(experts):
    with pytest.raises(InputError, match="experts: expected"):
        Router(classifier(), experts=experts)


# ---------------------------------------------------------------- who answers


class TestAnswers:
    def test_are_those_of_the_expert_that_it_names(self):
        router = Router(classifier(), experts=["batchnorm:prior=0", "ent:lr=0.1"])
        alone = {
            "source": classifier(),
            **{spec: make_adapter(spec, classifier()) for spec in router.experts[1:]},
        }
        for seed in range(4):
            images = pictures(seed=seed)
            expected = {name: model.predict(images) for name, model in alone.items()}
            np.testing.assert_array_equal(router.predict(images), expected[router.answering])

    def test_an_event_names_who_answers_and_why(self):
        router = Router(classifier())
        router.predict(pictures())
        [event] = router.events
        assert (event.kind, event.batch) == ("answers", 0)
        assert event.reason.startswith(f"{router.answering} answers. Errors as estimated without")
        for name in router.experts:
            assert f"{name} {100 * router.estimates[name]:.0f} %" in event.reason

    def test_images_are_counted_by_who_answered(self):
        router = Router(classifier())
        for count in (6, 1, 3):
            router.predict(pictures(count))
        assert sum(router.answered.values()) == 10
        with router.frozen():
            router.predict(pictures())
        assert sum(router.answered.values()) == 10

    def test_merged_is_who_answered_last(self):
        router = Router(convolutional(), experts=["batchnorm:prior=0"])
        outputs = [router(noise(32, seed=seed) * 4) for seed in range(6)]
        assert router.answering == "batchnorm:prior=0"
        torch.testing.assert_close(router.merge()(noise(32, seed=5) * 4), outputs[-1])

    def test_a_broken_image_is_left_to_the_source(self):
        router = Router(convolutional(), experts=[lambda m: BatchNorm(m, prior=0)])
        broken = noise(6)
        broken[2, 0, 0, 0] = math.nan
        outputs = router(broken)
        assert torch.isfinite(outputs[[0, 1, 3, 4, 5]]).all()
        assert torch.isfinite(router(noise(6))).all()
        assert all(np.isfinite(list(router.estimates.values())))

    def test_a_source_that_collapses_under_a_shift_does_not_answer(self):
        router = Router(far_away(), experts=["batchnorm:prior=0"])
        assert len(router(noise(16)).argmax(1).unique()) == 4
        assert router.answering == "batchnorm:prior=0"
        assert router.estimates["source"] >= 0.5

    def test_what_the_experts_tell_is_told_with_their_name(self):
        router = Router(convolutional(), experts=["ent"])
        broken = noise(6)
        broken[2] = math.nan
        router(broken)
        assert any(e.kind == "skipped" and e.reason.startswith("ent: ") for e in router.events)


# ---------------------------------------------------------------- labels


class TestLabels:
    def test_an_expert_that_only_labels_show_to_be_right_comes_to_answer(self):
        source = classifier()
        router = Router(source, experts=[fixed(1)])
        answering = []
        for seed in range(8):
            images = pictures(seed=seed)
            router.predict(images)
            answering.append(router.answering)
            truth = (source.predict(images).argmax(1) + 1) % 5
            router.label(6 * seed, int(truth[0]))
        assert answering[0] == "source"
        assert answering[-1] == "fixed1"
        # ln(0.9 / 0.05) = 2.9 mistakes make up for what the choice without labels begins with.
        assert answering.index("fixed1") == 3
        assert "Wrong of 3 labels: source 3, fixed1 0." in router.events[-1].reason

    def test_labels_that_agree_change_nothing(self):
        router = Router(classifier(), experts=[fixed(1)])
        for seed in range(5):
            logits = router.predict(pictures(seed=seed))
            router.label(6 * seed, int(logits[0].argmax()))
        assert router.answered == {"source": 30, "fixed1": 0}

    def test_names_of_classes(self):
        router = Router(classifier(), experts=["batchnorm"])
        router.predict(pictures())
        router.label(0, router.classes.names[2])
        with pytest.raises(LabelError):
            router.label(1, "no such class")

    @pytest.mark.parametrize(
        ("index", "label", "words"),
        [
            (6, 0, "No image 6 has been seen: expected 0 to 5"),
            (-1, 0, "No image -1 has been seen"),
            ("cat.jpg", 0, "expected the number of an image"),
            (True, 0, "expected the number of an image"),
            (0.0, 0, "expected the number of an image"),
            (None, 0, "expected the number of an image"),
            (2**70, 0, "No image"),
            (0, 5, "label: expected a class, 0 to 4, got 5"),
            (0, -1, "label: expected a class"),
            (0, 1.0, "label: expected a class"),
            (0, float("nan"), "label: expected a class"),
            (0, False, "label: expected a class"),
            (0, None, "label: expected a class"),
        ],
    )
    def test_that_fit_nothing_are_refused_in_a_sentence(self, index, label, words):
        router = Router(classifier())
        router.predict(pictures())
        before = router.state()
        with pytest.raises(InputError, match=words):
            router.label(index, label)
        assert all(torch.equal(value, before[name]) for name, value in router.state().items())

    def test_before_any_image_after_one_too_many_and_twice(self, monkeypatch):
        monkeypatch.setattr("shiftproof.adapt.safeguards.ledger.LABEL_WINDOW", 8)
        router = Router(classifier(), experts=["batchnorm"])
        with pytest.raises(InputError, match="No image 0 has been seen: there was none"):
            router.label(0, 0)
        for _ in range(2):
            router.predict(pictures())
        with pytest.raises(InputError, match="Image 3 was seen too long ago"):
            router.label(3, 0)
        router.label(4, 0)
        with pytest.raises(InputError, match="Image 4 has a label already"):
            router.label(4, 0)


# ---------------------------------------------------------------- experts that fail


class TestFailures:
    def test_an_expert_that_raises_is_left_out_and_the_stream_goes_on(self):
        source = classifier()
        router = Router(source, experts=[lambda m: failing(BatchNorm(m)), "ent"])
        for seed in range(3):
            images = pictures(seed=seed)
            answer = router.predict(images)
            if router.answering == "source":
                np.testing.assert_array_equal(answer, source.predict(images))
        events = [event for event in router.events if event.kind == "left out"]
        assert len(events) == 1
        assert events[0].reason.endswith("was left out: out of luck")
        router.merge()
        router.end_epoch()

    def test_answers_of_another_shape_leave_out_too(self):
        def short(model):
            adapter = BatchNorm(model)
            adapter.predict = lambda images: np.zeros((1, 5), np.float32)
            return adapter

        router = Router(classifier(), experts=[short])
        router.predict(pictures())
        assert "expected logits (6, 5)" in router.events[0].reason

    def test_a_state_knows_who_was_left_out(self):
        def make():
            router = Router(classifier(), experts=[lambda m: BatchNorm(m), "ent"])
            return router, router._experts[0].adapter

        first, broken = make()
        failing(broken)
        first.predict(pictures())
        second, _ = make()
        second.load_state(first.state())
        np.testing.assert_array_equal(
            second.predict(pictures(seed=1)), first.predict(pictures(seed=1))
        )
        assert not [event for event in second.events if event.kind == "left out"]

    def test_after_a_reset_it_takes_part_again(self):
        router = Router(classifier(), experts=["batchnorm"])
        adapter = router._experts[0].adapter
        failing(adapter)
        router.predict(pictures())
        assert [event.kind for event in router.events] == ["left out", "answers"]
        del adapter.predict
        router.reset()
        router.predict(pictures())
        assert [event.kind for event in router.events] == ["answers"]

    def test_what_cannot_be_made_of_a_model_is_left_out(self):
        router = Router(classifier(with_layer_norm()), experts=["batchnorm", "ent"])
        assert router.experts == ["source", "ent"]
        [event] = router.events
        assert "batchnorm was left out: " in event.reason
        assert router.predict(pictures()).shape == (6, 5)

    def test_with_no_expert_left_the_source_answers(self):
        module = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
        source = classifier(module.eval())
        router = Router(source)
        np.testing.assert_array_equal(router.predict(pictures()), source.predict(pictures()))
        assert [event.kind for event in router.events].count("left out") == 2

    def test_an_interruption_is_none_of_these(self):
        router = Router(classifier(), experts=["ent:lr=0.1", "batchnorm"])
        router.predict(pictures())
        before = router.state()
        router._experts[1].adapter.predict = Stopping()
        with pytest.raises(KeyboardInterrupt):
            router.predict(pictures(seed=1))
        assert all(torch.equal(value, before[name]) for name, value in router.state().items())

    def test_nor_one_in_the_pass_that_asks_for_the_reason_of_a_collapse(self):
        router = Router(far_away(), experts=["batchnorm:prior=0", "ent:prior=0,lr=0.1"])
        router(noise(16))
        before = router.state()
        router._first_layers.predict = Stopping()
        with pytest.raises(KeyboardInterrupt):
            router(noise(16, seed=1))
        assert all(torch.equal(value, before[name]) for name, value in router.state().items())


# ---------------------------------------------------------------- an adapter like the others


def test_goes_on_from_a_file_and_with_its_labels(tmp_path):
    spec = "router:experts=batchnorm:prior=0+ent:lr=0.1"
    whole, first, second = (make_adapter(spec, classifier()) for _ in range(3))
    for router in (whole, first):
        for seed in range(3):
            router.predict(pictures(seed=seed))
        router.label(4, 1)
    save(first, tmp_path / "half.safetensors")
    load(second, tmp_path / "half.safetensors")
    for router in (whole, second):
        router.label(2, 1)
    for seed in range(3, 6):
        images = pictures(1, seed=seed)
        np.testing.assert_array_equal(second.predict(images), whole.predict(images))
    assert second.answered == whole.answered


@pytest.mark.parametrize("name", ["ledger/by_labels", "ledger/counts", "router/numbers"])
def test_a_state_whose_numbers_do_not_fit_is_refused(name):
    router = Router(classifier())
    router.predict(pictures())
    state = router.state()
    state[name] = state[name] * 0 + 7
    with pytest.raises(InputError, match="damaged"):
        router.load_state(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_goes_on_alike_and_alone(copied):
    router = Router(classifier())
    router.predict(pictures())
    twin = copied(router)
    twin.label(0, 1)
    twin.predict(pictures(seed=1))
    assert sum(router.answered.values()) == 6


def test_a_long_stream_keeps_no_more_than_the_last_answers(monkeypatch):
    monkeypatch.setattr("shiftproof.adapt.safeguards.ledger.LABEL_WINDOW", 20)
    router = Router(convolutional(), experts=["batchnorm"])
    for _ in range(30):
        router(noise(2))
    assert router.state()["ledger/given"].shape == (20, 4)


def test_its_experts_statistics_need_no_warning_but_steps_that_move_nothing_do():
    settings = make_adapter("router:experts=batchnorm:prior=0+soft", classifier()).settings
    [said] = list_cautions(settings, batch_size=1, order="sorted")
    assert "soft learns nothing here" in said
