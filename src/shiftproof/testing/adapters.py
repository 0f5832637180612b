"""The contract of adapters as a public check."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from shiftproof.adapt.base.adapter import Adapter
from shiftproof.errors import InputError, ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.models.preprocess import Preprocess
from shiftproof.testing.untouched import check_globals, check_json
from shiftproof.types import Images, Logits


def check_adapter(
    make: Callable[[Classifier], Adapter],
    model: Classifier | None = None,
    batches: Sequence[Images] | None = None,
    *,
    merged_predicts: bool = True,
) -> None:
    """Check that an adapter keeps the contract of adapters.

    It is a classifier with the classes and preprocessing of the wrapped one; returns finite ``(N,
    K)`` float32 logits, also for a single image; does not change the wrapped model (parameters,
    buffers, gradients, mode, hooks), and works in any mode of that model; neither reads nor changes
    a global random state, torch's number of threads or its gradient mode; repeats its logits after
    ``reset()``, which also empties ``events``, and in a second instance; and ``merge()`` is a plain
    model with the wrapped model's class and ``state_dict`` keys, which equals it before any batch
    and shares no tensor with it.

    In ``frozen()`` it learns nothing and repeats its logits; ``parameters()`` are not the wrapped
    model's; ``end_epoch()`` before any batch has no effect; and an exception during ``predict``
    leaves the state unchanged. ``state()`` returns copies on the CPU; a new adapter that loads them
    predicts, merges and continues identically; and the state of another adapter is refused without
    any change.

    On the small network the logits must not depend on the implementation of batch norm: a
    ``SyncBatchNorm``, a subclass with its own forward, a checkpointed part, or a direct call of the
    function. An adapter may refuse implementations that it does not support with a ``ModelError``.

    Args:
        make: creates the adapter of a classifier: its class, or a function.
        model: the classifier to adapt; None uses a small random network with batch norm and
            dropout.
        batches: at least two batches ``(N, H, W, 3)`` uint8 of at least two images, processed by
            ``model.preprocess.geometry``; None generates some.
        merged_predicts: whether ``merge()`` returns the adapter's logits on the last batch. False
            for adapters that learn after predicting, or that change the logits instead of the
            model.

    Raises:
        AssertionError: the contract is violated; the message begins with the violated clause.

    >>> from shiftproof.adapt import BatchNorm
    >>> check_adapter(lambda classifier: BatchNorm(classifier, prior=4))
    """
    is_small = model is None and batches is None
    model = _make_small_classifier() if model is None else model
    batches = _make_small_batches() if batches is None else batches
    if len(batches) < 2 or min(map(len, batches)) < 2:
        raise ValueError("check_adapter needs two batches or more of two images or more.")

    trial = _Trial(make, model, batches)
    expected = trial.expected
    first = _check_globals(trial)
    adapter = make(model)
    _check_start(adapter, trial)
    expected += [_predict(adapter, batch) for batch in batches]
    _check_equal(expected[0], first, "deterministic: a second adapter gives other logits")
    _check_merged(adapter, trial, "after the last batch")
    if merged_predicts:
        trial.check_merge(
            adapter, -1, expected[-1], "merge: on the last batch it must give the adapter's logits"
        )
    _check_equal(_predict(adapter, batches[0][:0]), expected[0][:0], "batch of none: (0, K) logits")
    _predict(adapter, batches[0][:1])
    _check_reset(adapter, trial)
    _check_tensors(trial)
    trial.check_untouched()
    _check_parameters(trial)
    _check_end_epoch(trial)
    _check_state(trial)
    _check_frozen(trial)
    _check_bad_states(trial)
    _check_interruption(trial)
    _check_determinism(trial)
    _check_modes(trial)
    if is_small:
        _check_kinds(trial)
    trial.check_untouched()
    for batch, logits in zip(batches, trial.source, strict=True):
        _check_equal(model.predict(batch), logits, "wrapped model: it predicts other logits now")


class _Trial:
    """An adapter that is checked, on a classifier and batches.

    Attributes:
        make: creates the adapter of a classifier.
        model: the classifier.
        module: its network.
        batches: the batches it predicts.
        source: the classifier's own logits of each batch.
        expected: the logits of a new adapter on these batches, once computed.
    """

    def __init__(
        self, make: Callable[[Classifier], Adapter], model: Classifier, batches: Sequence[Images]
    ) -> None:
        assert isinstance(model.module, torch.nn.Module)
        self.make, self.model, self.batches = make, model, batches
        self.module: torch.nn.Module = model.module
        self.before = _take_snapshot(self.module)
        self.source = [model.predict(batch) for batch in batches]
        self.expected: list[Logits] = []

    def check_logits(self, clause: str, adapter: Adapter) -> None:
        """Check that an adapter returns the expected logits of each batch."""
        for batch, logits in zip(self.batches, self.expected, strict=True):
            _check_equal(_predict(adapter, batch), logits, clause)

    def predict_all(self) -> Adapter:
        """Return an adapter that has seen all batches."""
        adapter = self.make(self.model)
        for batch in self.batches:
            _predict(adapter, batch)
        return adapter

    def check_merge(self, adapter: Adapter, place: int, expected: Logits, clause: str) -> None:
        """Check the merged model's logits of a batch."""
        plain = _wrap_like(self.model, adapter.merge())
        _check_close(plain.predict(self.batches[place]), expected, clause)

    def check_untouched(self) -> None:
        """Check that the wrapped model is unchanged."""
        before, after = self.before, _take_snapshot(self.module)
        for what in ("modes", "hooks", "gradients"):
            assert after[what] == before[what], f"wrapped model: its {what} were changed"
        for name, value in before["tensors"].items():
            now = after["tensors"].get(name)
            assert now is not None, f"wrapped model: {name!r} is gone"
            # As bytes: NaN is NaN, and -0.0 is not 0.0.
            assert torch.equal(
                now.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)
            ), f"wrapped model: {name!r} was changed"
        assert len(after["tensors"]) == len(before["tensors"]), "wrapped model: it has new tensors"


# ---------------------------------------------------------------- the clauses


def _check_surface(adapter: Adapter, model: Classifier) -> None:
    for name in (
        *("name", "classes", "preprocess", "settings", "predict", "reset", "merge"),
        *("events", "frozen", "end_epoch", "parameters", "state", "load_state"),
    ):
        assert hasattr(adapter, name), f"is a classifier: it has no attribute {name!r}"
    assert callable(adapter), "is a classifier: it cannot be called"
    assert isinstance(adapter, Adapter), "is an adapter: it is not a shiftproof.adapt.Adapter"
    assert adapter.classes == model.classes, "is a classifier: it has other classes"
    assert adapter.preprocess == model.preprocess, "is a classifier: it has another preprocessing"
    assert isinstance(adapter.name, str), "is a classifier: its name is not a string"
    check_json(adapter.settings)


def _predict(adapter: Adapter, batch: Images) -> Logits:
    what = "batch of one" if len(batch) == 1 else f"batch of {len(batch)}"
    try:
        logits = adapter.predict(batch)
    except Exception as error:
        raise AssertionError(f"{what}: predict raised {type(error).__name__}: {error}") from error
    shape = (len(batch), len(adapter.classes))
    assert isinstance(logits, np.ndarray), f"{what}: predict returned {type(logits).__name__}"
    assert logits.shape == shape, f"{what}: logits of shape {logits.shape}, expected {shape}"
    assert logits.dtype == np.float32, f"{what}: logits of {logits.dtype}, expected float32"
    assert np.isfinite(logits).all(), f"finite: {what}: logits are not finite"
    kept: Logits = logits.copy()  # an adapter may reuse its output buffer
    return kept


def _check_merged(adapter: Adapter, trial: _Trial, when: str) -> None:
    merged, original = adapter.merge(), trial.module
    where = f"merge, {when}"
    assert isinstance(merged, torch.nn.Module), f"{where}: returned {type(merged).__name__}"
    assert type(merged) is type(original), (
        f"{where}: a {type(merged).__name__}, expected a plain {type(original).__name__}"
    )
    assert not any(part.training for part in merged.modules()), f"{where}: not in evaluation mode"
    state = merged.state_dict()
    assert list(state) == list(original.state_dict()), f"{where}: other state_dict keys"
    for name, part in merged.named_modules():
        hooks = _count_hooks(part)
        assert hooks == trial.before["hooks"].get(name), (
            f"{where}: the layer {name!r} has other hooks"
        )
    own = {tensor.data_ptr() for tensor in _list_tensors(original) if tensor.numel()}
    shared = [name for name, value in state.items() if value.numel() and value.data_ptr() in own]
    assert not shared, f"{where}: shares {shared[0]!r} with the wrapped model"


def _check_tensors(trial: _Trial) -> None:
    inputs = trial.batches[0].transpose(0, 3, 1, 2).copy()
    logits = trial.make(trial.model)(torch.from_numpy(inputs))
    assert isinstance(logits, torch.Tensor), f"call: returned {type(logits).__name__}"
    got = logits.detach().float().cpu().numpy()
    _check_close(got, trial.expected[0], "call: other logits than predict gives")


def _check_parameters(trial: _Trial) -> None:
    own = {tensor.data_ptr() for tensor in _list_tensors(trial.module) if tensor.numel()}
    for parameter in trial.make(trial.model).parameters():
        assert isinstance(parameter, torch.nn.Parameter), (
            f"parameters: yields {type(parameter).__name__}"
        )
        assert parameter.data_ptr() not in own, "parameters: one is the wrapped model's"


def _check_globals(trial: _Trial) -> Logits:
    """Check that nothing global and no argument changes; return the logits of the first batch."""
    batch = trial.batches[0]
    untouched = batch.copy()
    with check_globals():
        adapter = trial.make(trial.model)
        _check_surface(adapter, trial.model)
        logits = _predict(adapter, batch)
        adapter.merge()
        adapter.reset()
    assert np.array_equal(batch, untouched), "images: predict changed its argument"
    return logits


def _check_start(adapter: Adapter, trial: _Trial) -> None:
    _check_merged(adapter, trial, "before any batch")
    clause = "merge: before any batch it must equal the wrapped model"
    trial.check_merge(adapter, 0, trial.source[0], clause)


def _check_reset(adapter: Adapter, trial: _Trial) -> None:
    adapter.end_epoch()
    adapter.reset()
    assert len(adapter.events) == 0, "reset: events are left"
    clause = "reset: merge() must equal the wrapped model again"
    trial.check_merge(adapter, 0, trial.source[0], clause)
    trial.check_logits("reset: other logits than the first time", adapter)


def _check_end_epoch(trial: _Trial) -> None:
    adapter, batch = trial.make(trial.model), trial.batches[0]
    adapter.end_epoch()
    clause = "end_epoch: before any batch it changes logits"
    _check_equal(_predict(adapter, batch), trial.expected[0], clause)
    adapter.end_epoch()
    _predict(adapter, batch)


def _check_frozen(trial: _Trial) -> None:
    adapter, other, batches = trial.predict_all(), trial.predict_all(), trial.batches
    state, merged = adapter.state(), adapter.merge().state_dict()
    with adapter.frozen():
        logits = [_predict(adapter, batch) for batch in batches]
        for batch, expected in zip(reversed(batches), reversed(logits), strict=True):
            _check_equal(_predict(adapter, batch), expected, "frozen: the same batch, other logits")
    _check_same(adapter.state(), state, "frozen: the state has changed")
    _check_same(adapter.merge().state_dict(), merged, "frozen: merge() has changed")
    for batch in batches:
        _check_equal(
            _predict(adapter, batch),
            _predict(other, batch),
            "frozen: other logits afterwards than without it",
        )


def _check_state(trial: _Trial) -> None:
    adapter, batches = trial.predict_all(), trial.batches
    state = adapter.state()
    own = {t.data_ptr() for t in [*_list_tensors(trial.module), *adapter.parameters()] if t.numel()}
    for name, tensor in state.items():
        assert isinstance(tensor, torch.Tensor), f"state: {name!r} is a {type(tensor).__name__}"
    own |= {tensor.data_ptr() for tensor in adapter.state().values() if tensor.numel()}
    for name, tensor in state.items():
        assert tensor.device.type == "cpu", f"state: {name!r} is on {tensor.device}"
        assert not tensor.requires_grad, f"state: {name!r} records gradients"
        assert tensor.data_ptr() not in own or not tensor.numel(), f"state: {name!r} is not a copy"
    fresh = trial.make(trial.model)
    # A state must stay valid after the adapters that returned and loaded it.
    given = {name: tensor.clone() for name, tensor in state.items()}
    fresh.load_state(given)
    for tensor in [*state.values(), *given.values()]:
        tensor.zero_()
    _check_same(fresh.state(), adapter.state(), "state: differs after it was loaded")
    _check_same(fresh.merge().state_dict(), adapter.merge().state_dict(), "state: merge() differs")
    with adapter.frozen(), fresh.frozen():
        for batch in batches:
            _check_equal(
                _predict(fresh, batch), _predict(adapter, batch), "state: other frozen logits"
            )
    for batch in batches:
        _check_equal(
            _predict(fresh, batch), _predict(adapter, batch), "state: continues with other logits"
        )
    fresh.end_epoch()
    fresh.reset()
    _check_same(fresh.state(), trial.make(trial.model).state(), "reset: a state is left")


def _check_bad_states(trial: _Trial) -> None:
    adapter = trial.predict_all()
    good, merged = adapter.state(), adapter.merge().state_dict()
    bad = {"an unknown name": {**good, "no such thing": torch.zeros(1)}}
    for name, tensor in good.items():
        bad[f"{name!r} of another shape"] = {**good, name: torch.zeros(tensor.numel() + 1)}
    for what, state in bad.items():
        try:
            adapter.load_state(state)
        except InputError:
            _check_same(adapter.state(), good, f"state: refusing {what} changed it")
        except Exception as error:
            raise AssertionError(
                f"state: expected an InputError for {what}, got {type(error).__name__}: {error}"
            ) from error
        else:
            raise AssertionError(f"state: {what} is accepted")
    # Once: merging copies the model, and there are as many states as tensors.
    _check_same(
        adapter.merge().state_dict(), merged, "state: refusing states of others changed merge()"
    )


class _Interrupted(Exception):
    """Raised by the model during a prediction."""


def _check_interruption(trial: _Trial) -> None:
    """Check that each forward pass of one prediction may fail."""
    left, batches = [math.inf], trial.batches

    def interrupt(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise _Interrupted

    module = copy.deepcopy(trial.module)
    module.register_forward_hook(interrupt)
    twin = _wrap_like(trial.model, module)
    for position in range(1, 10):
        adapter = trial.make(twin)
        _predict(adapter, batches[0])
        state, merged = adapter.state(), adapter.merge().state_dict()
        left[0] = position
        try:
            adapter.predict(batches[1])
        except _Interrupted:
            pass
        else:
            break
        finally:
            left[0] = math.inf
        _check_same(adapter.state(), state, "exception: it changed the state")
        _check_same(adapter.merge().state_dict(), merged, "exception: it changed merge()")
        after = _predict(adapter, batches[1])
        _check_equal(after, trial.expected[1], "exception: other logits after it")


def _check_determinism(trial: _Trial) -> None:
    """Check that a second adapter under other global random states gives the same logits."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(12345)
            np.random.seed(12345)  # noqa: NPY002
            random.seed(12345)
            adapter = trial.make(trial.model)
            trial.check_logits("deterministic: a second adapter gives other logits", adapter)
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _check_modes(trial: _Trial) -> None:
    """Check that the wrapped model's mode has no effect."""
    module = trial.module
    flags = {part: part.training for part in module.modules()}
    try:
        for first in (True, False):
            module.train(first)
            adapter = trial.make(trial.model)
            pairs = zip(trial.batches, trial.expected, strict=True)
            for index, (batch, logits) in enumerate(pairs):
                module.train(first == (index % 2 == 0))
                _check_equal(
                    _predict(adapter, batch),
                    logits,
                    "mode: train() and eval() on the wrapped model change the logits",
                )
    finally:
        for part, flag in flags.items():
            part.training = flag


def _check_kinds(trial: _Trial) -> None:
    """Check equivalent networks with other implementations of layers."""
    for kind, model in _make_equivalent_networks():
        try:
            adapter = trial.make(model)
            logits = [adapter.predict(batch) for batch in trial.batches]
        except ModelError:
            continue
        for got, wanted in zip(logits, trial.expected, strict=True):
            _check_close(got, wanted, f"layers: other logits on a network with {kind}")


# ---------------------------------------------------------------- tools


def _take_snapshot(module: Any) -> dict[str, Any]:
    """Return everything of a module that an adapter could change."""
    tensors = {f"parameter {name}": value for name, value in module.named_parameters()}
    tensors |= {f"buffer {name}": value for name, value in module.named_buffers()}
    return {
        "tensors": {name: value.detach().cpu().clone() for name, value in tensors.items()},
        "modes": {name: part.training for name, part in module.named_modules()},
        "hooks": {name: _count_hooks(part) for name, part in module.named_modules()},
        "gradients": {
            name: (value.requires_grad, value.grad is None)
            for name, value in module.named_parameters()
        },
    }


def _count_hooks(part: torch.nn.Module) -> tuple[int, int, int]:
    return (
        len(part._forward_pre_hooks),
        len(part._forward_hooks),
        len(part._backward_hooks),
    )


def _list_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _wrap_like(model: Classifier, module: torch.nn.Module) -> Classifier:
    """Return a classifier of another network with the same preprocessing and classes."""
    return Classifier(
        module, model.preprocess, model.classes, device=model.device, outputs=model.outputs
    )


def _check_same(
    got: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], clause: str
) -> None:
    assert list(got) == list(expected), f"{clause}: other names"
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), f"{clause}: {name!r}"


def _check_equal(got: Logits, expected: Logits, clause: str) -> None:
    assert got.shape == expected.shape, f"{clause}: shape {got.shape} and not {expected.shape}"
    if not np.array_equal(got, expected):
        difference = float(np.abs(got - expected).max())
        raise AssertionError(f"{clause} (largest difference {difference:.3g})")


def _check_close(got: Logits, expected: Logits, clause: str) -> None:
    """Compare up to rounding, which depends on the memory layout."""
    assert got.shape == expected.shape, f"{clause}: shape {got.shape} and not {expected.shape}"
    difference = float(np.abs(got - expected).max())
    scale = max(float(np.abs(expected).max()), 1.0)
    assert difference <= 1e-4 * scale, f"{clause} (largest difference {difference:.3g})"


def _make_small_classifier() -> Classifier:
    return _make_classifier(_make_small_network())


def _make_small_network() -> torch.nn.Sequential:
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # Statistics of a training set, different from those of the batches below.
                layer.get_buffer("running_mean").normal_(0, 0.3)
                layer.get_buffer("running_var").uniform_(0.5, 2)
    return network


def _make_classifier(network: torch.nn.Module) -> Classifier:
    half = (0.5, 0.5, 0.5)
    return Classifier(network, Preprocess((32, 32), 32, mean=half, std=half), name="small")


def _make_equivalent_networks() -> Iterator[tuple[str, Classifier]]:
    """Yield networks equivalent to the small one, with descriptions of their batch norm."""
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    class OwnForward(nn.BatchNorm2d):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return nn.functional.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )

    class Checkpointed(nn.Sequential):
        def forward(self, inputs: torch.Tensor) -> Any:
            return checkpoint(super().forward, inputs, use_reentrant=False)

    class Bypassed(nn.Sequential):
        def forward(self, inputs: torch.Tensor) -> Any:
            return self[0].forward(inputs)

    def replace_layers(change: Callable[[nn.BatchNorm2d], nn.Module], *places: int) -> Classifier:
        network: Any = _make_small_network()
        for place in places:
            network[place] = change(network[place])
        return _make_classifier(network)

    def convert_to(kind: Any, **options: Any) -> Callable[[nn.BatchNorm2d], nn.Module]:
        def change(layer: nn.BatchNorm2d) -> nn.Module:
            made: nn.Module = kind(layer.num_features, **options)
            made.load_state_dict(layer.state_dict())
            return made

        return change

    yield "SyncBatchNorm", replace_layers(convert_to(nn.SyncBatchNorm), 1, 5)
    yield "momentum=None", replace_layers(convert_to(nn.BatchNorm2d, momentum=None), 1, 5)
    yield "a subclass of BatchNorm2d", replace_layers(convert_to(OwnForward), 1, 5)
    yield "a checkpointed BatchNorm2d", replace_layers(Checkpointed, 5)
    yield "a BatchNorm2d whose forward is called", replace_layers(Bypassed, 5)


def _make_small_batches() -> list[Images]:
    """Return three batches that differ in brightness and contrast, the last one smaller."""
    rng = np.random.default_rng(0)
    return [
        np.clip(rng.normal(mean, deviation, (count, 32, 32, 3)), 0, 255).astype(np.uint8)
        for count, mean, deviation in ((8, 128, 60), (8, 200, 30), (3, 60, 20))
    ]
