"""Detection of batch norm that an adapter cannot control."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.nn.modules import batchnorm
from torch.utils._python_dispatch import TorchDispatchMode

from shiftproof.adapt.normalization.norm_layers import find_all_batch_norm_layers
from shiftproof.errors import ModelError

Outputs = TypeVar("Outputs")

# ---------------------------------------------------------------- by the network's structure


def check_structure(network: torch.nn.Module, norms: Mapping[str, Any]) -> None:
    """Raise a ModelError if a part of a network has batch norm that no hook can control.

    Args:
        network: an adapter's copy of a network.
        norms: its batch-norm layers by name.
    """
    for name, part in network.named_modules():
        if isinstance(part, torch.jit.ScriptModule) and _script_normalizes(part):
            raise ModelError(
                f"The part {name!r} is TorchScript and has batch norm inside, whose graph is "
                "fixed, so it would not be adapted. Script or trace merge() instead."
            )
        if isinstance(part, torch.nn.DataParallel) and len(part.device_ids) > 1:
            raise ModelError(
                f"The part {name!r} is split over {len(part.device_ids)} devices (DataParallel), of "
                "which each sees a part of the batch. Adapt its .module."
            )
        if _calls_another(part, network):
            raise ModelError(
                f"The forward of {_name_part(name)} was replaced by a function that calls the original "
                "network, and not the copy that adapts. Replace it by a method of a subclass."
            )
    for name, layer in norms.items():
        if ".quantized" in type(layer).__module__:
            raise ModelError(
                f"The layer {name!r} ({type(layer).__name__}) is quantized: its statistics are "
                "folded into integers. Adapt the model before it is quantized."
            )


def _name_part(name: str) -> str:
    return f"the part {name!r}" if name else "the network"


def _script_normalizes(part: Any) -> bool:
    """Whether a TorchScript module's graph has batch norm."""
    if any("BatchNorm" in child.original_name for child in part.modules() if _is_script(child)):
        return True
    try:
        return "batch_norm" in str(part.inlined_graph)
    except (AttributeError, RuntimeError):  # no forward
        return False


def _is_script(part: object) -> bool:
    return hasattr(part, "original_name")


def _calls_another(part: torch.nn.Module, network: torch.nn.Module) -> bool:
    """Whether a forward set on the instance ``part`` refers to a module outside of the copy."""
    replaced = vars(part).get("forward")
    if replaced is None or type(part).__name__ == "OptimizedModule":
        return False
    own = {id(module) for module in network.modules()}
    held = [value for value in _list_references(replaced) if isinstance(value, torch.nn.Module)]
    return any(id(module) not in own and find_all_batch_norm_layers(module) for module in held)


def _list_references(function: Any, depth: int = 4) -> Iterator[object]:
    """Yield the objects referenced by a function, a bound method or a partial function."""
    if depth == 0:
        return
    held: list[Any] = []
    if isinstance(function, types.MethodType):
        held = [function.__self__]
    elif isinstance(function, functools.partial):
        held = [function.func, *function.args, *function.keywords.values()]
    elif isinstance(function, types.FunctionType):
        cells = function.__closure__ or ()
        held = [value for cell in cells if (value := _read_cell(cell)) is not None]
        held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for value in held:
        yield value
        yield from _list_references(value, depth - 1)


def _read_cell(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # an empty closure cell
        return None


# ---------------------------------------------------------------- in a forward pass


def has_reentrant_checkpoint(outputs: object) -> bool:
    """Whether a part of the graph behind ``outputs`` is a reentrant ``torch.utils.checkpoint``."""
    waiting = [getattr(outputs, "grad_fn", None)]
    known: set[object] = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if "CheckpointFunction" in node.name():
            return True
        found = {following for following, _ in node.next_functions} - known
        known |= found
        waiting += found
    return False


def run_checked(
    forward: Callable[[], Outputs],
    network: torch.nn.Module,
    known: Mapping[str, Any],
    controlled: Mapping[str, Any],
) -> Outputs:
    """Run a forward pass and return its output, unless batch norm bypassed the hooks.

    Args:
        forward: runs ``network`` once.
        network: an adapter's copy.
        known: its batch-norm layers by name; operations inside of them belong to them.
        controlled: the layers that normalize by the adapter's statistics.

    Raises:
        ModelError: a layer normalizes by running statistics without being called as a module, or
            by others than its own.
    """
    path: list[str] = []
    uncontrolled: list[str] = []

    def dispatch(_: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _uses_running_statistics(func, args, kwargs or {}):
            where = path[-1] if path else ""
            if not any(name in known for name in path) and not isinstance(
                network.get_submodule(where), torch.nn.modules.instancenorm._InstanceNorm
            ):
                uncontrolled.append(where)
        return func(*args, **(kwargs or {}))

    # Defined here, since torch's base class is untyped; its method receives every operation.
    watch: Any = type(
        "Watch",
        (TorchDispatchMode,),
        {"__torch_dispatch__": dispatch, "_should_skip_dynamo": classmethod(_has_compiler)},
    )
    with _track_path(network, path), _probe_layers(controlled), watch():
        outputs = forward()
    if uncontrolled:
        kind = type(network.get_submodule(uncontrolled[0])).__name__
        where = _name_part(uncontrolled[0])
        raise ModelError(
            f"{where[0].upper()}{where[1:]} ({kind}) runs batch norm without calling any layer as a "
            "module (as a function, or by a layer's forward), so it would not be adapted. Let it "
            "call a torch.nn.BatchNorm layer."
        )
    return outputs


def _has_compiler(_: type) -> bool:
    """Whether torch's compiler is loaded, and must be disabled for this check.

    Otherwise torch would import it only for this, which takes two seconds.
    """
    return "torch._dynamo" in sys.modules


def _uses_running_statistics(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation is batch norm with running statistics."""
    schema = getattr(func, "_schema", None)
    if schema is None or "batch_norm" not in schema.name or "backward" in schema.name:
        return False
    given = dict(zip((argument.name for argument in schema.arguments), args, strict=False))
    return {**given, **kwargs}.get("running_mean") is not None


@contextmanager
def _track_path(network: torch.nn.Module, path: list[str]) -> Iterator[None]:
    """Keep the names of the running modules in ``path``, the innermost last."""

    def enter(name: str) -> Callable[..., None]:
        def run(*_: object) -> None:
            path.append(name)

        return run

    def leave(*_: object) -> None:
        path.pop()

    handles = []
    for name, part in network.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            handles.append(part.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(part.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _probe_layers(layers: Mapping[str, Any]) -> Iterator[None]:
    """Check at the first run of each layer that it normalizes by its running statistics."""
    unknown = {name: layer for name, layer in layers.items() if not _is_torch_batch_norm(layer)}

    def probe(name: str) -> Callable[..., None]:
        def run(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name in unknown:
                del unknown[name]
                _check_layer(name, layer, args, kwargs)

        return run

    handles = [
        layer.register_forward_pre_hook(probe(name), with_kwargs=True)
        for name, layer in unknown.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class StandIn:
    """An adapter's replacement for the forward of torch's batch norm."""


def _is_torch_batch_norm(layer: Any) -> bool:
    """Whether a layer's forward is that of torch's own batch norm."""
    kinds = (
        batchnorm.BatchNorm1d,
        batchnorm.BatchNorm2d,
        batchnorm.BatchNorm3d,
        batchnorm.SyncBatchNorm,
    )
    replaced = vars(layer).get("forward")
    return type(layer) in kinds and (replaced is None or isinstance(replaced, StandIn))


def _check_layer(name: str, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise a ModelError unless a layer normalizes by its running mean and variance.

    Its output must be the same for ``z`` with mean 0 and variance 1 as for ``3 z + 2`` with 2 and
    9, and, if the test is informative, different for ``3 z + 2`` with 0 and 1.
    """
    values = args[0] if args else next(iter(kwargs.values()))
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        return
    ramp = torch.linspace(-1.5, 1.5, values.numel(), device=values.device)
    z = ramp.reshape(values.shape).to(values.dtype)
    before = layer.running_mean, layer.running_var

    def out(inputs: torch.Tensor, mean: float, scale: float) -> torch.Tensor:
        layer.running_mean = torch.full_like(before[0], mean)
        layer.running_var = torch.full_like(before[1], scale - getattr(layer, "eps", 1e-5))
        inputs = inputs.clone()  # the layer may work in place
        given = ((inputs, *args[1:]), kwargs) if args else (args, {**kwargs, first: inputs})
        result: torch.Tensor = layer.forward(*given[0], **given[1])
        return result.float()

    first = "" if args else next(iter(kwargs))
    try:
        with torch.no_grad():
            one, same = out(z, 0, 1), out(3 * z + 2, 2, 9)
            other = out(3 * z + 2, 0, 1)
    finally:
        layer.running_mean, layer.running_var = before
    rounding = 0.05 if values.element_size() < 4 else 1e-3
    allowed = rounding * max(float(one.abs().max()), 1e-3)
    depends = float((one - one.flatten()[0]).abs().max()) > allowed
    differs = one.shape != same.shape or not float((one - same).abs().max()) <= allowed
    ignores = depends and float((one - other).abs().max()) <= allowed
    if differs or ignores:
        raise ModelError(
            f"The layer {name!r} ({type(layer).__name__}) does not normalize by its running mean and "
            "variance as batch norm does, so it cannot be adapted. Put a torch.nn.BatchNorm there."
        )
