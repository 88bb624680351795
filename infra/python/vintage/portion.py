"""One rank's portion of an update's batch, and the way from the ranks' values to the whole's and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from .batch import chosen
from .ranks import Alone
from .shares import Indices, Share, shares, spans


class Portion:
    """Rows of a batch that this rank computes; of a learner that is alone, all of them.

    ``handed`` are the arrays of the whole batch, and the bounds of the plan's micro-batches.
    """

    def __init__(self, handed: Mapping[str, Any], ranks: Alone) -> None:
        self._handed, self._ranks = handed, ranks
        starts, counts = handed["cu_seqlens"], handed["target_counts"]
        # The last token of a completion is predicted, and is no input.
        tokens = np.diff(starts) + (counts > 0)
        self._all = shares(tokens, handed["micro_batches"], ranks.size)

    @property
    def _share(self) -> Share:
        return self._all[self._ranks.rank]

    @property
    def bounds(self) -> Indices:
        """First row of each micro-batch, and number of rows."""
        return self._share.bounds

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of the rows of this rank; targets of a row that does not count are not trained on."""
        arrays = {name: x for name, x in self._handed.items() if isinstance(x, np.ndarray)}
        del arrays["micro_batches"]
        if self._ranks.size > 1:
            arrays = chosen(arrays, self._share.rows)
            arrays["loss_mask"] = arrays["loss_mask"] & self._counted
        return arrays

    def whole(self, values: Any) -> Any:
        """Values of all targets of the whole batch, of those of each rank's; without gradients."""
        values = values if isinstance(values, np.ndarray) else values.detach()
        if self._ranks.size == 1:
            return values
        counts = [len(places) for places in self._places]
        parts = self._ranks.gather(values[_beside(self._counted, values)], counts)
        whole = _zeros(sum(counts), values)
        for places, part in zip(self._places, parts):
            whole[_beside(places, values)] = part
        return whole

    def own(self, values: Any) -> Any:
        """Values of this rank's targets, of those of the whole batch; 0 for rows that do not count."""
        if self._ranks.size == 1:
            return values
        own = _zeros(len(self._counted), values)
        places = self._places[self._ranks.rank]
        own[_beside(self._counted, values)] = values[_beside(places, values)]
        return own

    def digest(self) -> str:
        """Digest of the whole batch and of all shares."""
        hashed = hashlib.sha256()
        arrays = [x for _, x in sorted(self._handed.items()) if isinstance(x, np.ndarray)]
        for share in self._all:
            arrays += [share.rows, share.bounds, share.counted]
        for array in arrays:
            hashed.update(np.ascontiguousarray(array).data)
        return hashed.hexdigest()

    @cached_property
    def _counted(self) -> np.ndarray[Any, Any]:
        """Whether each target of this rank is of a row that counts."""
        return np.repeat(self._share.counted, self._handed["target_counts"][self._share.rows])

    @cached_property
    def _places(self) -> list[Indices]:
        """Place in the whole batch of each target that a rank counts."""
        starts = np.cumsum([0, *self._handed["target_counts"]])
        return [spans(starts, share.rows[share.counted]) for share in self._all]


def _beside(indices: np.ndarray[Any, Any], values: Any) -> Any:
    """Indices or a mask for ``values``, on their device."""
    if isinstance(values, np.ndarray):
        return indices
    import torch

    return torch.from_numpy(indices).to(values.device)


def _zeros(count: int, values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np.zeros(count, dtype=values.dtype)
    return values.new_zeros(count)
