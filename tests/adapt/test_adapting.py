"""What holds for all adapters: contexts, threads, exports, and the known ways to fail."""

import copy
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from shiftproof.adapt import LAME, BatchNorm, RDumb, SelfLearning, adapting, make_adapter
from shiftproof.errors import InputError, ModelError, UnknownNameError
from support.small_networks import (
    classifier,
    convolutional,
    noise,
    pictures,
    portrait,
    with_layer_norm,
)

LEARNERS = ["batchnorm", "batchnorm:over=stream", "rpl:lr=0.1", "hard:lr=0.1", "ent:answers=after"]


class TestAdaptingContext:
    def test_it_gives_an_adapter_and_forgets_at_the_end(self):
        with adapting(convolutional(), "ent:lr=0.1") as adapted:
            adapted(noise())
            assert not torch.equal(adapted.merge()[1].weight, convolutional()[1].weight)
        assert torch.equal(adapted.merge()[1].weight, convolutional()[1].weight)
        assert isinstance(adapted, SelfLearning)

    def test_after_an_exception_too(self):
        def fail(adapter):
            adapter(noise())
            raise KeyError

        with pytest.raises(KeyError), adapting(convolutional()) as adapted:
            fail(adapted)
        assert torch.equal(adapted.merge()[1].running_mean, convolutional()[1].running_mean)

    def test_the_adapter_by_a_function(self):
        def build(model):
            return RDumb(SelfLearning(model), every=2)

        with adapting(classifier(), build) as adapted:
            assert isinstance(adapted, RDumb)
        with adapting(classifier(), LAME) as adapted:
            assert isinstance(adapted, LAME)

    def test_what_cannot_be_made_is_said_before_the_block(self):
        with pytest.raises(UnknownNameError), adapting(classifier(), "batchnrom"):
            raise AssertionError
        with pytest.raises(ModelError), adapting(with_layer_norm()):
            raise AssertionError


class TestKnownFaults:
    """What published implementations are known to do; one each."""

    @pytest.mark.parametrize("spec", LEARNERS)
    def test_it_adapts_whatever_mode_the_model_is_in(self, spec):
        results = []
        for mode in (True, False):
            module = convolutional()
            adapter = make_adapter(spec, module.train(mode))
            module.train(not mode)
            adapter(noise())
            adapter._network.module.eval()  # as who gets hold of it may do
            results.append(adapter(noise(seed=1)))
        assert torch.equal(*results)
        with torch.no_grad():
            assert not torch.allclose(results[0], convolutional()(noise(seed=1)), atol=1e-3)

    def test_affine_parameters_that_the_caller_froze_learn_all_the_same(self):
        module = convolutional().requires_grad_(False)
        adapter = SelfLearning(module, loss="ent", lr=0.1)
        adapter(noise())
        free = SelfLearning(convolutional(), loss="ent", lr=0.1)
        free(noise())
        assert portrait(adapter) == portrait(free)
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert not any(parameter.requires_grad for parameter in adapter.merge().parameters())

    @pytest.mark.parametrize("spec", LEARNERS)
    def test_dropout_stays_off(self, spec):
        quiet = convolutional()
        quiet[3] = nn.Identity()
        first, second = make_adapter(spec, convolutional().train()), make_adapter(spec, quiet)
        for seed in range(2):
            assert torch.equal(first(noise(seed=seed)), second(noise(seed=seed)))

    def test_eps_is_the_layer_s_own(self):
        """Almost constant images: eps decides the result."""
        module = nn.Sequential(nn.BatchNorm2d(3, eps=0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        x = noise() / 100
        expected = (x - x.mean((0, 2, 3), keepdim=True)) / (
            x.var((0, 2, 3), correction=0, keepdim=True) + 0.5
        ).sqrt()
        for adapter in (BatchNorm(module, prior=0), SelfLearning(module, lr=0.0)):
            torch.testing.assert_close(adapter(x), module[1:](expected))
            assert adapter.merge()[0].eps == 0.5

    @pytest.mark.parametrize("spec", LEARNERS)
    def test_one_broken_pixel_poisons_nothing(self, spec):
        adapter, other = (make_adapter(spec, convolutional()) for _ in range(2))
        broken = noise(seed=1)
        broken[2, 1, 5, 5] = float("nan")
        for one in (adapter, other):
            one(noise())
        adapter(broken)
        assert len(adapter.events) == 1
        assert portrait(adapter) == portrait(other)
        assert torch.equal(adapter(noise(seed=2)), other(noise(seed=2)))

    @pytest.mark.parametrize("spec", LEARNERS)
    def test_the_plain_model_loads_what_is_merged(self, spec):
        adapter = make_adapter(spec, convolutional())
        adapter(noise())
        merged = adapter.merge()
        plain = convolutional()
        plain.load_state_dict(merged.state_dict(), strict=True)
        with torch.no_grad():
            assert torch.equal(plain(noise(seed=1)), merged(noise(seed=1)))

    @pytest.mark.parametrize("spec", ["batchnorm:prior=4", "ent:prior=4"])
    def test_n_is_the_number_of_images_in_the_smaller_last_batch(self, spec):
        """N = 4 and n = 2: the batch weighs a third."""
        adapter = make_adapter(spec, convolutional())
        adapter(noise(8))
        adapter(noise(2, seed=1))
        layer, values = convolutional()[1], convolutional()[0](noise(2, seed=1)).detach()
        expected = 2 / 3 * layer.running_mean + 1 / 3 * values.mean((0, 2, 3))
        torch.testing.assert_close(adapter.merge()[1].running_mean, expected)

    @pytest.mark.filterwarnings("ignore:BatchNorm.prior=0:RuntimeWarning")
    @pytest.mark.parametrize(
        "spec", ["batchnorm:prior=0", "batchnorm:over=stream,prior=0", "rpl:prior=0"]
    )
    def test_one_image_and_a_one_pixel_map(self, spec):
        module = nn.Sequential(
            nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4)
        ).eval()
        adapter = make_adapter(spec, module)
        with torch.no_grad():
            torch.testing.assert_close(adapter(noise(1)), module(noise(1)))
        assert torch.isfinite(adapter(noise(1, seed=1))).all()
        assert torch.isfinite(adapter.merge()(noise(1))).all()


class TestFrozen:
    @pytest.mark.parametrize("spec", LEARNERS)
    def test_contexts_may_overlap(self, spec):
        """As those of two threads do: the first to end does not end the other."""
        adapter = make_adapter(spec, convolutional())
        adapter(noise())
        before = portrait(adapter)
        first, second = adapter.frozen(), adapter.frozen()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        adapter(noise(seed=1))
        assert portrait(adapter) == before
        second.__exit__(None, None, None)
        adapter(noise(seed=1))
        assert portrait(adapter) != before

    def test_it_ends_with_an_exception(self):
        adapter = SelfLearning(convolutional(), lr=0.1)
        before = portrait(adapter)
        with pytest.raises(KeyError), adapter.frozen():
            raise KeyError
        adapter(noise())
        assert portrait(adapter) != before

    def test_a_broken_image_spares_its_neighbours(self):
        broken = noise()
        broken[0, 0, 3, 3] = float("nan")
        for spec in ("batchnorm", "batchnorm:over=stream", "ent"):
            adapter = make_adapter(spec, convolutional())
            adapter(noise())
            with adapter.frozen():
                assert torch.isfinite(adapter(broken)[1:]).all()


class TestThreads:
    def test_a_batch_norm_is_shared(self):
        adapter = BatchNorm(convolutional(), prior=4)
        batches = [noise(4, seed=seed) for seed in range(24)]
        expected = [BatchNorm(convolutional(), prior=4)(batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            for result, wanted in zip(pool.map(adapter, batches), expected, strict=True):
                assert torch.equal(result, wanted)

    def test_self_learning_is_as_in_some_order(self):
        """The order is told by the state that each batch leaves; then it is run again alone."""
        adapter = SelfLearning(convolutional(), loss="ent", lr=0.1)
        batches, order, results = [noise(4, seed=seed) for seed in range(16)], [], {}
        step = adapter._step
        numbered = {batch.data_ptr(): number for number, batch in enumerate(batches)}

        def noted(inputs):
            order.append(numbered[inputs.data_ptr()])
            return step(inputs)

        adapter._step = noted

        def work(number):
            results[number] = adapter(batches[number])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(16)))
        alone = SelfLearning(convolutional(), loss="ent", lr=0.1)
        assert sorted(order) == list(range(16))
        for number in order:
            assert torch.equal(alone(batches[number]), results[number])
        assert portrait(alone) == portrait(adapter)

    @pytest.mark.parametrize("spec", ["batchnorm", "ent:lr=0.1"])
    def test_merged_and_state_wait_for_the_batch_at_hand(self, spec):
        inside, go = threading.Event(), threading.Event()

        def wait(*_):
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                go.wait(20)

        module = convolutional()
        module[-1].register_forward_hook(wait)
        adapter = make_adapter(spec, module)
        with ThreadPoolExecutor(3) as pool:
            prediction = pool.submit(adapter, noise())
            assert inside.wait(20)
            # The layers hold hooks and the batch's statistics now.
            merged, state = pool.submit(adapter.merge), pool.submit(adapter.state)
            assert not merged.done()
            go.set()
            prediction.result(20)
            assert not any(part._forward_pre_hooks for part in merged.result(20).modules())
            assert list(state.result(20)) == list(adapter.state())


class TestExports:
    @pytest.mark.parametrize("spec", ["batchnorm", "rpl:lr=0.1"])
    def test_torchscript(self, spec):
        adapter = make_adapter(spec, convolutional())
        adapter(noise())
        merged, x = adapter.merge(), noise(seed=1)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch advises against it
            scripted, traced = torch.jit.script(merged), torch.jit.trace(merged, x)
            for exported in (scripted, traced):
                torch.testing.assert_close(exported(x), merged(x))

    @pytest.mark.parametrize("spec", ["batchnorm", "rpl:lr=0.1"])
    def test_onnx(self, spec, tmp_path):
        adapter = make_adapter(spec, convolutional())
        adapter(noise())
        merged, x, path = adapter.merge(), noise(seed=1), tmp_path / "merged.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises the exporter that needs onnxscript
            torch.onnx.export(merged, (x,), str(path), dynamo=False, input_names=["images"])
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [result] = session.run(None, {"images": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(result, merged(x).numpy(), rtol=1e-4, atol=1e-5)


class TestDeterminism:
    @pytest.mark.parametrize("spec", LEARNERS)
    def test_two_runs_are_the_same_to_the_last_bit(self, spec):
        runs = []
        for seed in range(2):
            torch.manual_seed(seed)
            adapter = make_adapter(spec, classifier())
            runs.append([adapter.predict(pictures(seed=at)).tobytes() for at in range(3)])
            runs[-1].append(portrait(adapter))
        assert runs[0] == runs[1]


class TestAutocast:
    @pytest.mark.parametrize("spec", ["batchnorm", "batchnorm:over=stream", "lame", "rpl", "soft"])
    def test_bfloat16_works_and_stays_finite(self, spec):
        adapter, exact = (make_adapter(spec, classifier()) for _ in range(2))
        for seed in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                result = adapter.predict(pictures(seed=seed))
            expected = exact.predict(pictures(seed=seed))
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, expected, rtol=0.1, atol=0.2)
        assert not adapter.events
        assert all(torch.isfinite(value).all() for value in adapter.merge().state_dict().values())


class TestInputs:
    @pytest.mark.parametrize("spec", ["batchnorm", "ent", "lame", "rdumb+ent"])
    def test_what_is_no_tensor(self, spec):
        for adapter in (make_adapter(spec, classifier()), make_adapter(spec, convolutional())):
            for broken in (None, pictures(), [1, 2], torch.tensor(1.0)):
                with pytest.raises(InputError):
                    adapter(broken)

    @pytest.mark.parametrize("spec", ["batchnorm", "ent"])
    def test_an_image_of_another_size_that_the_model_refuses_changes_nothing(self, spec):
        module = copy.deepcopy(convolutional())
        module[7] = nn.Identity()
        module[9] = nn.Linear(6 * 12 * 12, 5)
        adapter = make_adapter(spec, module)
        adapter(noise())
        before = portrait(adapter)
        with pytest.raises(RuntimeError):
            adapter(noise(4, size=11))
        assert portrait(adapter) == before
        assert not any(part._forward_pre_hooks for part in adapter._network.module.modules())


def test_without_torch_the_table_is_there_and_an_adapter_says_the_pip_line():
    code = """
import sys
sys.modules["torch"] = None
import shiftproof.adapt, shiftproof.testing
from shiftproof.errors import MissingExtraError
print(*shiftproof.adapt.ADAPTERS)
uses = [
    lambda: shiftproof.adapt.BatchNorm,
    lambda: shiftproof.adapt.make_adapter("guard+rpl", print),
    lambda: shiftproof.testing.check_adapter,
]
for use in uses:
    try:
        use()
    except MissingExtraError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    table, *errors = done.stdout.splitlines()
    assert table == (
        "batchnorm rpl ent hard soft actmad cotta rotta note memo lame eata sar deyo roid t3a tda zero tpt "
        "clipartt rdumb guard router"
    )
    assert len(errors) == 3
    assert all('pip install "shiftproof[torch]"' in error for error in errors)
