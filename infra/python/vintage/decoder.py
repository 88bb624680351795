"""A decoder in plain PyTorch, for the models that a run trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._native import UsageError


class Decoder(nn.Module):
    """Decoder of the families that a run trains (Llama, Mistral, Qwen2, Qwen3), in plain PyTorch.

    ``config`` is a ``config.json``. Parameters have Hugging Face's names; those of a new decoder are
    not initialised as a run's version 0 is: load them. Called as transformers' models are, it
    returns logits ``[R, L, V]``; rows are padded on the right.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.model = _Trunk(self.config)
        width, vocabulary = config["hidden_size"], config["vocab_size"]
        self.tied = bool(config.get("tie_word_embeddings", False))
        if not self.tied:
            self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits of the token after each place; ``attention_mask`` is not needed for padding on the
        right, because no token sees what comes after it."""
        hidden = self.model(input_ids)
        weight = self.model.embed_tokens.weight if self.tied else self.lm_head.weight
        return nn.functional.linear(hidden, weight)


class _Trunk(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = _Norm(config["hidden_size"], config["rms_norm_eps"])
        self.frequencies: Tensor
        self.register_buffer("frequencies", _frequencies(config), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device, dtype=torch.float32)
        angles = places[:, None] * self.frequencies[None, :]
        turn = (angles.cos().repeat(1, 2), angles.sin().repeat(1, 2))
        hidden = self.embed_tokens(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, turn)
        normed: Tensor = self.norm(hidden)
        return normed


class _Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (x.float() * scale).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, heads = config["hidden_size"], config["num_attention_heads"]
        self.dim = config.get("head_dim") or width // heads
        self.groups = heads // config.get("num_key_value_heads", heads)
        keys = config.get("num_key_value_heads", heads) * self.dim
        kind = config["model_type"]
        bias = kind == "qwen2" or bool(config.get("attention_bias", False))
        self.q_proj = nn.Linear(width, heads * self.dim, bias=bias)
        self.k_proj = nn.Linear(width, keys, bias=bias)
        self.v_proj = nn.Linear(width, keys, bias=bias)
        self.o_proj = nn.Linear(heads * self.dim, width, bias=bias and kind != "qwen2")
        if kind == "qwen3":
            self.q_norm = _Norm(self.dim, config["rms_norm_eps"])
            self.k_norm = _Norm(self.dim, config["rms_norm_eps"])

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        rows, length, _ = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(rows, length, -1, self.dim)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = _rotate(q.transpose(1, 2), turn), _rotate(k.transpose(1, 2), turn)
        k = k.repeat_interleave(self.groups, dim=1)
        v = v.transpose(1, 2).repeat_interleave(self.groups, dim=1)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        projected: Tensor = self.o_proj(attended.transpose(1, 2).reshape(rows, length, -1))
        return projected


class _Layer(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = _Norm(width, eps)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = _Norm(width, eps)
        self.mlp = _Mlp(width, config["intermediate_size"])

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turn)
        inner: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + inner


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.to(x.dtype) + turned * sin.to(x.dtype)


def _frequencies(config: Mapping[str, Any]) -> Tensor:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    dim = config.get("head_dim") or width // heads
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise UsageError(f"this decoder has no rope_type {kind!r}: use transformers' model")
    frequencies = []
    for pair in range(dim // 2):
        frequency = 1.0 / theta ** (2 * pair / dim)
        if kind == "llama3":
            original = scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            wavelength = 2 * math.pi / frequency
            if wavelength > original / low:
                frequency /= scaling["factor"]
            elif wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / scaling["factor"] + smooth * frequency
        frequencies.append(frequency)
    return torch.tensor(frequencies, dtype=torch.float32)
