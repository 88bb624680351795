"""Parameters and moments of a PyTorch model and its AdamW, sharded or not, as a run stores them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._native import UsageError

_WRAPPERS = {
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
}

#: Name of a parameter, its values, and its moments if it has any; flat, on any device.
Entry = tuple[str, Any, Any | None, Any | None]


def plain_name(name: str) -> str:
    """Name of a parameter without those of PyTorch's wrappers around it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    if parts and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a model by their names in its files."""
    return {plain_name(name): parameter for name, parameter in model.named_parameters()}


def host_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Copy of a tensor as a contiguous float32 array."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def put_together(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, for which all ranks must ask at once; others as they are."""
    if not hasattr(tensor, "full_tensor"):
        return tensor
    full: Tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
    return full


def load_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, entries: Iterable[Entry], steps: int
) -> None:
    """Copies parameters and moments into a model and its AdamW; moments of other parameters are
    forgotten. Sharded parameters take their shard, and nothing is sent."""
    there = named(model)
    optimizer.state.clear()
    on_device = any(
        group.get("fused") or group.get("capturable") for group in optimizer.param_groups
    )
    for name, values, first, second in entries:
        parameter = there[name]
        with torch.no_grad():
            parameter.copy_(_sharded(values, parameter))
        if first is None or steps == 0:
            continue
        optimizer.state[parameter] = {
            "step": torch.tensor(float(steps), device=parameter.device if on_device else "cpu"),
            "exp_avg": _sharded(first, parameter).to(parameter.dtype).clone(),
            "exp_avg_sq": _sharded(second, parameter).to(parameter.dtype).clone(),
        }


def _sharded(values: Any, like: Tensor) -> Tensor:
    """Flat values in the shape and on the device of ``like``, and sharded as it is."""
    tensor = torch.as_tensor(values).view(like.shape).to(like.device)
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # Every rank has all values of this one: nothing is sent.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def steps_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Number of steps that AdamW has taken; raises :class:`vintage.UsageError` for another optimizer."""
    if not isinstance(optimizer, torch.optim.AdamW):
        raise UsageError(
            f"the optimizer is {type(optimizer).__name__}, and a run's checkpoints hold the moments "
            "of AdamW: use torch.optim.AdamW"
        )
    if any(group.get("amsgrad") or group.get("maximize") for group in optimizer.param_groups):
        raise UsageError("AdamW with amsgrad or maximize keeps what a run's checkpoints do not hold")
    states = [optimizer.state.get(parameter) for parameter in model.parameters()]
    counts = {int(state["step"]) for state in states if state}
    if len(counts) > 1:
        raise UsageError(
            f"parameters took {sorted(counts)} steps of the optimizer: an update trains all of them"
        )
    return counts.pop() if counts else 0


def moments_of(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """First and second moments of AdamW by parameter name; 0 where it took no step yet."""
    first, second = {}, {}
    for name, parameter in named(model).items():
        state = optimizer.state.get(parameter)
        if state:
            first[name], second[name] = state["exp_avg"], state["exp_avg_sq"]
        else:
            first[name] = second[name] = torch.zeros(()).expand(parameter.shape)
    return first, second
