"""TRL's asynchronous trainer on a CPU: what it has for GPUs alone is put in another way.

Its attention over packed trees is a kernel of FlashAttention 3, and it asks for the GPU's peak.
Everything else is the trainer as it is.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from trl.experimental.async_grpo import AsyncGRPOConfig, async_grpo_trainer
from trl.experimental.async_grpo.packing import TREE_ATTENTION

#: Folders of trainers; they go with the process.
PLACES: list[tempfile.TemporaryDirectory[str]] = []


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    tree_kv_index: torch.Tensor,
    tree_cu_seqlens_q: torch.Tensor,
    tree_cu_seqlens_k: torch.Tensor,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Each segment of the tree sees its path from the root, up to itself."""
    bounds = zip(
        tree_cu_seqlens_q.tolist(),
        tree_cu_seqlens_q.tolist()[1:],
        tree_cu_seqlens_k.tolist(),
        tree_cu_seqlens_k.tolist()[1:],
    )
    parts = []
    for q_first, q_end, k_first, k_end in bounds:
        path = tree_kv_index[k_first:k_end]
        queries, keys = q_end - q_first, k_end - k_first
        seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, q_first:q_end], key[:, :, path], value[:, :, path], attn_mask=seen, scale=scaling
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


def install() -> None:
    """Has trainers that are made from now on compute on a CPU."""

    def register() -> None:
        AttentionInterface.register(TREE_ATTENTION, attention)
        AttentionMaskInterface.register(TREE_ATTENTION, lambda **more: None)

    async_grpo_trainer.register_tree_attention = register
    async_grpo_trainer.get_peak_flops_per_device = lambda *more: None


def arguments(**more: Any) -> AsyncGRPOConfig:
    """Arguments of a trainer on a CPU that writes nothing but into a temporary folder."""
    PLACES.append(tempfile.TemporaryDirectory(prefix="vintage-trl-"))
    given = {
        "output_dir": PLACES[-1].name,
        "use_cpu": True,
        "bf16": False,
        "gradient_accumulation_steps": 2,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        **more,
    }
    return AsyncGRPOConfig(**given)
