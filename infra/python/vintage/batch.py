"""Rows of an update: packed as they are handed out, and padded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .shares import Indices, spans

#: One value for each input token, target or row.
_BY_TARGET = (
    "targets",
    "temperature",
    "logprobs",
    "advantages",
    "loss_mask",
    "versions",
    "staleness",
)
_BY_ROW = ("groups", "samples", "rewards", "target_counts")


def chosen(arrays: Mapping[str, Any], rows: Indices) -> dict[str, Any]:
    """Arrays of a batch of ``rows`` alone, in this order; a row may come more than once."""
    starts = arrays["cu_seqlens"]
    counts = arrays["target_counts"]
    tokens = spans(starts, rows)
    targets = spans(np.cumsum([0, *counts]), rows)
    taken = {name: arrays[name][targets] for name in _BY_TARGET}
    taken.update({name: arrays[name][rows] for name in _BY_ROW})
    taken["input_ids"] = arrays["input_ids"][tokens]
    taken["cu_seqlens"] = np.cumsum([0, *np.diff(starts)[rows]])
    moved = np.repeat(taken["cu_seqlens"][:-1] - starts[rows], counts[rows])
    taken["target_positions"] = arrays["target_positions"][targets] + moved
    return taken


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows end to end, without padding.

    ``T`` input tokens of ``R`` rows, ``N`` completion tokens that the model predicts. Arrays are
    tensors on the learner's device, or NumPy arrays without PyTorch.

    ========================  =========  ====================================================
    ``input_ids``             int64 [T]  prompt and completion of each row; the last token of a
                                         completion is predicted and never an input
    ``position_ids``          int64 [T]  place of each token in its row
    ``cu_seqlens``            int64 [R+1]  first token of each row, and T
    ``target_positions``      int64 [N]  input token that predicts each target
    ``target_rows``           int64 [N]  row of each target
    ``targets``               int64 [N]  id of each completion token
    ``temperature``           float32 [N]  temperature of the softmax it was sampled from
    ``logprobs``              float32 [N]  log-prob under the policy that sampled it, in nats
    ``advantages``            float32 [N]  advantage, normalised within the group
    ``loss_mask``             bool [N]  true for tokens that are trained on
    ``versions``              int64 [N]  version that sampled it
    ``staleness``             int64 [N]  updates between that version and the newest
    ``groups``                int64 [R]  place of the row's group in ``group_ids``
    ``samples``               int64 [R]  index of the row within its group
    ``rewards``               float32 [R]  reward of the row
    ``target_counts``         int64 [R]  completion tokens of the row
    ========================  =========  ====================================================
    """

    input_ids: Any
    position_ids: Any
    cu_seqlens: Any
    target_positions: Any
    target_rows: Any
    targets: Any
    temperature: Any
    logprobs: Any
    advantages: Any
    loss_mask: Any
    versions: Any
    staleness: Any
    groups: Any
    samples: Any
    rewards: Any
    target_counts: Any
    group_ids: list[str]
    _arrays: Mapping[str, np.ndarray[Any, Any]]
    _convert: Callable[[np.ndarray[Any, Any]], Any]

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        group_ids: list[str],
        convert: Callable[[np.ndarray[Any, Any]], Any],
    ) -> Batch:
        """Makes a batch of NumPy arrays; ``convert`` makes a tensor of each."""
        starts = arrays["cu_seqlens"]
        lengths = np.diff(starts)
        derived = dict(arrays)
        derived["position_ids"] = np.arange(len(arrays["input_ids"])) - np.repeat(
            starts[:-1], lengths
        )
        derived["target_rows"] = np.repeat(
            np.arange(len(lengths)), arrays["target_counts"]
        )
        names = [name for name in cls.__dataclass_fields__ if not name.startswith("_")]
        names.remove("group_ids")
        converted = {name: convert(derived[name]) for name in names}
        return cls(**converted, group_ids=group_ids, _arrays=derived, _convert=convert)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._arrays["rewards"])

    def rows(self, first: int, end: int) -> Batch:
        """Rows ``first`` to ``end``, as a batch of their own."""
        arrays = self._arrays
        starts = arrays["cu_seqlens"]
        counts = np.concatenate([[0], np.cumsum(arrays["target_counts"])])
        tokens = slice(starts[first], starts[end])
        targets = slice(counts[first], counts[end])
        taken = {
            "input_ids": arrays["input_ids"][tokens],
            "cu_seqlens": starts[first : end + 1] - starts[first],
            "target_positions": arrays["target_positions"][targets] - starts[first],
        }
        taken.update({name: arrays[name][targets] for name in _BY_TARGET})
        taken.update({name: arrays[name][first:end] for name in _BY_ROW})
        return Batch.of(taken, self.group_ids, self._convert)

    def padded(self, pad_id: int = 0) -> Padded:
        """The same rows as rectangles ``[R, L]``, padded on the right."""
        arrays = self._arrays
        starts, counts = arrays["cu_seqlens"], arrays["target_counts"]
        lengths = np.diff(starts) + (counts > 0)
        shape = (len(lengths), int(lengths.max(initial=0)))
        rows = arrays["target_rows"]
        places = arrays["target_positions"] - starts[rows] + 1

        def spread(name: str, fill: float) -> np.ndarray[Any, Any]:
            values = arrays[name]
            wide = np.full(shape, fill, dtype=values.dtype)
            wide[rows, places] = values
            return wide

        input_ids = spread("targets", pad_id)
        token_rows = np.repeat(np.arange(len(lengths)), np.diff(starts))
        input_ids[token_rows, arrays["position_ids"]] = arrays["input_ids"]
        wide = {
            "input_ids": input_ids,
            "attention_mask": (np.arange(shape[1]) < lengths[:, None]).astype(np.int64),
            "temperature": spread("temperature", 1.0),
            "logprobs": spread("logprobs", 0.0),
            "advantages": spread("advantages", 0.0),
            "loss_mask": spread("loss_mask", False),
            "versions": spread("versions", -1),
            "staleness": spread("staleness", -1),
            "rewards": arrays["rewards"],
            "groups": arrays["groups"],
            "target_rows": rows,
            "target_places": places,
        }
        return Padded(**{name: self._convert(values) for name, values in wide.items()})


@dataclass(frozen=True, eq=False)
class Padded:
    """Rows as rectangles ``[R, L]``: whole sequences, padded on the right.

    ``input_ids`` and ``attention_mask`` go into a model as they are. At place ``t`` of a row,
    ``logprobs``, ``advantages``, ``loss_mask``, ``versions``, ``staleness`` and ``temperature``
    belong to token ``t``, which the model's output at ``t - 1`` predicts.
    """

    input_ids: Any
    attention_mask: Any
    temperature: Any
    logprobs: Any
    advantages: Any
    loss_mask: Any
    versions: Any
    staleness: Any
    rewards: Any
    groups: Any
    target_rows: Any
    target_places: Any

    def flat(self, values: Any) -> Any:
        """Values ``[R, L]`` of the completions' tokens, ``[N]`` in the order of the batch."""
        return values[self.target_rows, self.target_places]

    def predicting(self, outputs: Any) -> Any:
        """Outputs ``[R, L, ...]`` of a model that predict the targets, ``[N, ...]``."""
        return outputs[self.target_rows, self.target_places - 1]
