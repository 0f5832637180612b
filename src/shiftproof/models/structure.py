"""Copies, devices and fingerprints of networks; the caller's network is never modified."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from shiftproof.errors import ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.lazy import import_extra

if TYPE_CHECKING:
    import torch


def is_torch_module(value: object) -> bool:
    """Return whether ``value`` is a ``torch.nn.Module``, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def require_torch() -> None:
    """Raise a MissingExtraError with the pip command if torch is not installed."""
    import_extra("torch", "torch")


def find_device(name: str) -> torch.device:
    """Return the torch device of a name.

    Args:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``: the first available one
            of CUDA, MPS and CPU.

    Raises:
        ModelError: the device is not available.
        UnknownNameError: no such device name.
    """
    import torch

    name = str(name).strip().lower()
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()):
        raise UnknownNameError.of("device", name, ["cpu", "cuda", "cuda:1", "mps", "auto"])
    if kind == "cuda" and not cuda:
        raise ModelError(
            "The device 'cuda' is not available: torch sees no CUDA device here. "
            "Use 'cpu' or 'auto', or install a torch build with CUDA."
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ModelError(
            f"The device {name!r} is not available: torch sees "
            f"{torch.cuda.device_count()} CUDA device(s): 'cuda:0' is the first."
        )
    if kind == "mps" and not mps:
        raise ModelError(
            "The device 'mps' is not available: torch sees no Apple GPU here. Use 'cpu' or 'auto'."
        )
    # As tensors report it: "cuda" is "cuda:0".
    return torch.empty(0, device=name).device


CONTAINERS = (OrderedDict, dict, set)
"""Containers of a module whose empty instances are copied without deepcopy."""


def copy_structure(
    module: torch.nn.Module, *, share: Literal["tensors", "parameters", "nothing"]
) -> torch.nn.Module:
    """Copy a network's structure: its modules, flags and hooks, but not all of its tensors.

    Args:
        module: any module; not modified.
        share: ``"tensors"``: parameters and buffers are shared with the caller's module, so
            training it changes the copy; ``"parameters"``: buffers are copied; ``"nothing"``: both
            are copied.

    Returns:
        A module of the same class in evaluation mode.

    Raises:
        ModelError: the module cannot be copied, or its lazy parameters are not initialized.
    """
    import torch

    memo: dict[int, Any] = {}
    for part in module.modules():
        if any(torch.nn.parameter.is_lazy(value) for value in _list_tensors(part)):
            raise ModelError(
                f"The lazy module {type(part).__name__} has no parameters yet: "
                "run the model on one batch first."
            )
        for value in vars(part).values():
            # Tensors that are neither parameter nor buffer (such as the weight of weight_norm) may
            # be part of an autograd graph, which deepcopy refuses; the module recomputes them.
            if isinstance(value, torch.Tensor):
                shared = share != "nothing"
                memo[id(value)] = value if shared else value.detach().clone()
            # A module has a dozen dictionaries of hooks, most of them empty; deepcopy spends more
            # time on each than on a parameter.
            elif type(value) in CONTAINERS and not value:
                memo[id(value)] = type(value)()
        if share != "nothing":
            memo.update({id(p): p for p in part._parameters.values() if p is not None})
        if share == "tensors":
            memo.update({id(b): b for b in part._buffers.values() if b is not None})
    try:
        copied: torch.nn.Module = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(
            f"The model {type(module).__name__} cannot be copied ({error}), and it is never "
            "changed itself. Remove what copy.deepcopy cannot copy from it."
        ) from error
    for part in copied.modules():
        # Not eval(): a module may override train() and rewrite weights (merged adapters do), which
        # are the caller's.
        part.training = False
    return copied


def _list_tensors(part: torch.nn.Module) -> list[Any]:
    return [*part._parameters.values(), *part._buffers.values()]


def get_device(module: torch.nn.Module) -> torch.device | None:
    """Return the device of a module's tensors; None if there are none or several devices."""
    devices = {tensor.device for tensor in module.parameters()}
    devices |= {tensor.device for tensor in module.buffers()}
    return devices.pop() if len(devices) == 1 else None


def get_input_dtype(module: torch.nn.Module) -> torch.dtype:
    """Return the dtype of a network's inputs: its first floating parameter's, else float32."""
    import torch

    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


@runtime_checkable
class DescribesComputed(Protocol):
    """A module with tensors that were computed from others."""

    def describe_computed(self) -> dict[str, str]:
        """Return what each such tensor was computed from, by name."""


def fingerprint_weights(module: torch.nn.Module) -> str:
    """Return 32 hex digits that change when any parameter or buffer of the state_dict changes.

    The last bits of a tensor that was computed from others depend on machine and threads. If the
    module has ``describe_computed()``, which returns texts by the names of such tensors, these
    texts are hashed instead.
    """
    import torch

    computed = _describe_computed(module)

    def parts() -> Iterator[bytes]:
        for name, value in module.state_dict().items():
            yield name.encode()
            if name in computed:
                yield computed[name].encode()
                continue
            if not isinstance(value, torch.Tensor):
                yield repr(value).encode()
                continue
            yield f"{value.dtype} {tuple(value.shape)}".encode()
            # reshape before view: a scalar has no last dimension to view as bytes.
            flat = value.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().tobytes()

    return files.fingerprint(parts())


def _describe_computed(module: torch.nn.Module) -> dict[str, str]:
    return {
        f"{place}.{name}" if place else name: told
        for place, part in module.named_modules()
        if isinstance(part, DescribesComputed)
        for name, told in part.describe_computed().items()
    }


def download_error(name: str, arch: str, error: Exception) -> Exception:
    """Return the error to raise when loading pretrained weights failed with ``error``.

    Errors that concern neither the network nor the disk are returned unchanged.
    """
    # Hugging Face's client raises errors of its HTTP library, not all of which are OSErrors.
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    network = {"urllib", "requests", "urllib3", "httpx", "httpcore", "httpx2", "huggingface_hub"}
    if not isinstance(error, OSError) and not roots & network:
        return error
    text = str(error).strip() or type(error).__name__
    return ModelError(
        f"The weights of {name} could not be downloaded ({text.splitlines()[0][:200]}). "
        "Without a network, download them elsewhere and name the file: "
        f"file:PATH?arch={arch}"
    )
