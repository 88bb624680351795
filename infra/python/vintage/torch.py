"""M2PO in PyTorch, log-probs of an update, AdamW of a run, and a decoder for its tiny model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from ._native import UsageError
from .batch import Batch
from .decoder import Decoder
from .rollouts import RolloutStream as _Stream, collate as collate_arrays
from .weighing import STATISTICS, weigh as weigh_arrays

__all__ = [
    "Decoder",
    "RolloutStream",
    "WeighedTensors",
    "adamw",
    "collate",
    "m2po_mask",
    "score",
    "token_logprobs",
    "weigh",
]

#: Most tokens of one mask: sums of as many limbs are exact in int64.
_MOST_TOKENS = 1 << 22


@dataclass(frozen=True, eq=False)
class WeighedTensors:
    """What a rule makes of a batch: ``mask`` (bool [N]), ``weights`` ([N], derivative of the loss by
    each log-prob) and ``loss`` (scalar, with that gradient) on the log-probs' device, ``value`` of the
    loss in float64, and ``statistics``."""

    mask: Tensor
    weights: Tensor
    loss: Tensor
    value: float
    statistics: dict[str, float]


def m2po_mask(
    new: Tensor, behavior: Tensor, advantage: Tensor, valid: Tensor, threshold: float
) -> Tensor:
    """Mask of the paper's Algorithm 1, exactly, computed on the device.

    Of the valid tokens whose gradient would move them further from the policy that sampled them
    (``A > 0`` and ``new > behavior``, or the reverse), those with the largest squared log-ratio are
    dropped until the mean of the rest is at most ``threshold``. Of equal ones at the cut, those with
    the lowest index go first.

    Shapes are ``[N]``; N is at most 2**22. Sums are of integers, in steps of 2**-80 of the
    threshold's scale, so that the mask does not depend on the order of a device's additions, and is
    that of the learner in Rust.
    """
    if new.numel() > _MOST_TOKENS:
        raise UsageError(f"a mask of {new.numel()} tokens: at most {_MOST_TOKENS} at once")
    if new.numel() == 0:
        return valid.clone()
    ratio = new.double() - behavior.double()
    trust = valid & (
        ((advantage > 0) & (new > behavior)) | ((advantage < 0) & (new < behavior))
    )
    # Tokens outside count as 0, which changes no sum.
    squares = torch.where(trust, ratio * ratio, torch.zeros_like(ratio))
    small = squares <= threshold
    exponent = math.frexp(threshold)[1] if threshold > 0 else 0
    coarse, fine = _steps(squares, exponent)
    tau = torch.tensor([threshold], dtype=torch.float64, device=new.device)
    tau_coarse, tau_fine = _steps(tau, exponent)

    # What the small squares leave of the budget.
    counted = trust & small
    zero = torch.zeros_like(coarse)
    count = counted.sum()
    room_coarse = count * tau_coarse - torch.where(counted, coarse, zero).sum()
    room_fine = count * tau_fine - torch.where(counted, fine, zero).sum()
    room = count * threshold - torch.where(counted, squares, torch.zeros_like(squares)).sum()

    # Large squares in ascending order, of equal ones the highest index first. They are few.
    large = trust & ~small
    places = large.nonzero().squeeze(1).flip(0)
    places = places[torch.sort(squares[places], stable=True).indices]
    spent_coarse = (coarse[places] - tau_coarse).cumsum(0)
    spent_fine = (fine[places] - tau_fine).cumsum(0)
    # Well beyond the room a sum is out of the question, and might have overflowed.
    about = (squares[places] - threshold).cumsum(0)
    plausible = (about <= (1 + 2.0**-20) * room) & torch.isfinite(about)
    rest_fine = spent_fine - room_fine
    carry = torch.div(rest_fine, 1 << 40, rounding_mode="floor")
    over = spent_coarse - room_coarse + carry
    left = rest_fine - (carry << 40)
    fits = plausible & ((over < 0) | ((over == 0) & (left <= 0)))
    kept = torch.zeros_like(valid)
    kept[places] = fits
    return valid & (~large | kept)


def _steps(values: Tensor, exponent: int) -> tuple[Tensor, Tensor]:
    """Values on the grid, as two numbers: of 2**(exponent - 40), and of 2**(exponent - 80)."""
    ceiling = math.ldexp(1.0, exponent + 22)
    values = values.clamp(max=ceiling)
    coarse = torch.round(values * math.ldexp(1.0, 40 - exponent))
    rest = values - coarse * math.ldexp(1.0, exponent - 40)
    fine = torch.round(rest * math.ldexp(1.0, 80 - exponent))
    return coarse.long(), fine.long()


def weigh(
    new: Tensor,
    behavior: Tensor,
    advantage: Tensor,
    valid: Tensor,
    *,
    rule: str = "m2po",
    threshold: float = 0.04,
    clip: float = 0.2,
    clamp: float = 20.0,
    proximal: Tensor | None = None,
) -> WeighedTensors:
    """Weighs the tokens of one update, as :func:`vintage.weigh` does, on the device of ``new``.

    ``m2po``, ``grpo`` and ``none`` are computed there, and one vector of statistics is copied to the
    host. ``m2po_areal`` and ``m2po_fork`` are computed on the host by the learner's own code.

    ``loss`` has the gradient ``weights`` by ``new``, whatever the clamp did; ``new`` may need no
    gradient. Raises :class:`vintage.UsageError` for other shapes, and for NaN or infinity on a valid
    token.
    """
    for name, column in (("behavior", behavior), ("advantage", advantage), ("valid", valid)):
        if column.shape != new.shape or new.dim() != 1:
            raise UsageError(
                f"`{name}` has shape {list(column.shape)}, and `new` has {list(new.shape)}: all "
                "are [N]"
            )
    if rule not in ("m2po", "grpo", "none"):
        return _weigh_on_host(new, behavior, advantage, valid, rule, threshold, clip, clamp, proximal)
    with torch.no_grad():
        fixed = new.detach()
        bad = valid & ~(
            torch.isfinite(fixed) & torch.isfinite(behavior) & torch.isfinite(advantage)
        )
        clean = ~bad & valid
        zero = torch.zeros((), dtype=torch.float64, device=new.device)
        log_ratio = torch.where(clean, fixed.double() - behavior.double(), zero)
        ratio = log_ratio.clamp(-clamp, clamp).exp()
        open_loss = -ratio * torch.where(clean, advantage.double(), zero)
        loss, slope = open_loss, open_loss
        trust = clean & (
            ((advantage > 0) & (fixed > behavior)) | ((advantage < 0) & (fixed < behavior))
        )
        if rule == "m2po":
            kept = m2po_mask(fixed, behavior, advantage, clean, threshold)
            loss = torch.where(kept, loss, zero)
            slope = loss
        elif rule == "grpo":
            bounded = -ratio.clamp(1.0 - clip, 1.0 + clip) * torch.where(
                clean, advantage.double(), zero
            )
            clipped = bounded > open_loss
            kept = clean & ~clipped
            loss = torch.where(clipped, bounded, open_loss)
            slope = torch.where(clipped, zero, open_loss)
        else:
            kept = clean
        count = valid.sum()
        n = count.clamp(min=1).double()
        weights = torch.where(kept, slope / n, zero).to(new.dtype)
        value = torch.where(clean, loss, zero).sum() / n
        squares = log_ratio * log_ratio

        def mean(values: Tensor, where: Tensor) -> Tensor:
            return torch.where(where, values, zero).sum() / where.sum().clamp(min=1)

        masked = (clean & ~kept).sum()
        numbers = torch.stack(
            [
                count.double(),
                trust.sum().double(),
                masked.double(),
                (clean & (log_ratio.abs() > clamp)).sum().double(),
                masked / n,
                mean(squares, clean),
                mean(squares, trust),
                mean(squares, trust & kept),
                -mean(log_ratio, clean),
                torch.where(kept, log_ratio.abs(), zero).amax()
                if new.numel()
                else zero,
                value,
                bad.sum().double(),
            ]
        ).tolist()
    if numbers[-1] > 0:
        at = int(torch.nonzero(bad)[0])
        raise UsageError(
            f"valid token {at} has a log-prob of {float(fixed[at])} under the policy and "
            f"{float(behavior[at])} under the one that sampled it, and an advantage of "
            f"{float(advantage[at])}: one of them is not finite; the policy has diverged"
        )
    statistics: dict[str, float] = dict(zip(STATISTICS, numbers))
    for name in STATISTICS[:4]:
        statistics[name] = int(statistics[name])
    statistics["kl_k1"] += 0.0  # no -0
    loss_tensor = with_gradient(value, weights, new)
    return WeighedTensors(kept, weights, loss_tensor, numbers[-2], statistics)


def with_gradient(value: Tensor, weights: Tensor, new: Tensor) -> Tensor:
    """``value``, with the gradient ``weights`` by ``new``."""
    value = value.to(new.dtype)
    if not new.requires_grad:
        return value
    surrogate = (weights * new).sum()
    return surrogate - surrogate.detach() + value


def _weigh_on_host(
    new: Tensor,
    behavior: Tensor,
    advantage: Tensor,
    valid: Tensor,
    rule: str,
    threshold: float,
    clip: float,
    clamp: float,
    proximal: Tensor | None,
) -> WeighedTensors:
    def host(column: Tensor) -> np.ndarray[Any, Any]:
        return column.detach().to("cpu").numpy()

    weighed = weigh_arrays(
        host(new),
        host(behavior),
        host(advantage),
        host(valid),
        rule=rule,
        threshold=threshold,
        clip=clip,
        clamp=clamp,
        proximal=None if proximal is None else host(proximal),
    )
    weights = torch.from_numpy(weighed["weights"]).to(new.device, new.dtype)
    value = torch.tensor(weighed["loss"], dtype=new.dtype, device=new.device)
    return WeighedTensors(
        mask=torch.from_numpy(weighed["mask"]).to(new.device),
        weights=weights,
        loss=with_gradient(value, weights, new),
        value=weighed["loss"],
        statistics={name: weighed[name] for name in STATISTICS},
    )


def token_logprobs(
    logits: Tensor, targets: Tensor, temperature: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-prob of each target and entropy of its softmax, both float32 ``[N]``, in nats.

    ``logits`` are ``[N, V]``, ``targets`` int64 ``[N]``, ``temperature`` ``[N]`` or one number.
    """
    scaled = logits.float()
    if isinstance(temperature, Tensor):
        scaled = scaled / temperature[:, None]
    elif temperature != 1.0:
        scaled = scaled / temperature
    normalizer = torch.logsumexp(scaled, dim=-1)
    logprobs = scaled.gather(1, targets[:, None]).squeeze(1) - normalizer
    with torch.no_grad():
        shifted = scaled - normalizer[:, None]
        entropy = -(shifted.exp() * shifted).sum(-1)
    return logprobs, entropy


def score(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies ``[N]`` of a batch's targets under ``model``.

    ``model`` is called as transformers' models are, with ``input_ids`` and ``attention_mask``
    ``[R, L]``, and returns logits ``[R, L, V]``, or an object that has them as ``logits``.
    """
    padded = batch.padded()
    output = model(input_ids=padded.input_ids, attention_mask=padded.attention_mask)
    logits = getattr(output, "logits", output)
    return token_logprobs(padded.predicting(logits), batch.targets, batch.temperature)


def adamw(model: nn.Module, settings: Mapping[str, Any]) -> torch.optim.AdamW:
    """AdamW as ``[learner.optimizer]`` of a run sets it; ``settings`` as a plan has them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decay = float(settings["weight_decay"])
    if settings["decay_vectors"]:
        groups = [{"params": trained, "weight_decay": decay}]
    else:
        matrices = [parameter for parameter in trained if parameter.dim() > 1]
        vectors = [parameter for parameter in trained if parameter.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(
        groups,
        lr=float(settings["lr"]),
        betas=(float(settings["beta1"]), float(settings["beta2"])),
        eps=float(settings["eps"]),
    )


def check_optimizer(optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]) -> None:
    """Refuses an optimizer whose settings are not those that the plan records."""
    wanted = {
        "lr": settings["lr"],
        "betas": (settings["beta1"], settings["beta2"]),
        "eps": settings["eps"],
    }
    for number, group in enumerate(optimizer.param_groups):
        found = {"lr": float(group["lr"]), "betas": tuple(group["betas"]), "eps": group["eps"]}
        decays = {float(settings["weight_decay"])}
        if not settings["decay_vectors"]:
            decays.add(0.0)
        for name, value in wanted.items():
            if found[name] != value:
                raise UsageError(
                    f"group {number} of the optimizer has {name} {found[name]}, and the plan "
                    f"{value}: set learner.optimizer of the run to what you want, and let "
                    "attach(model) make the optimizer"
                )
        if float(group["weight_decay"]) not in decays:
            raise UsageError(
                f"group {number} of the optimizer has weight_decay {group['weight_decay']}, and the "
                f"plan {settings['weight_decay']}: set learner.optimizer.weight_decay of the run"
            )


class RolloutStream(_Stream, IterableDataset):  # type: ignore[type-arg]
    """:class:`vintage.RolloutStream` for a ``DataLoader``: an ``IterableDataset``."""


def collate(items: Sequence[Mapping[str, Any]], *, pad_id: int = 0) -> dict[str, Any]:
    """:func:`vintage.collate`, in tensors: the ``collate_fn`` of a ``DataLoader``."""
    wide = collate_arrays(items, pad_id=pad_id)
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in wide.items()
    }
