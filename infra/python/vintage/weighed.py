"""What a rule made of an update's batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._native import UsageError


@dataclass(eq=False)
class Weighed:
    """What the run's rule made of an update's batch.

    ``mask`` is true for the tokens that the rule kept, ``weights`` the derivative of the loss by each
    log-prob; both ``[N]``, of this rank's targets. Under ``torch.distributed`` weights are multiplied by
    the number of ranks, which averaging of gradients divides by. ``loss`` is a scalar for ``backward()`` if the log-probs had gradients,
    ``value`` the same number. ``statistics`` are counts and means of what the rule did.
    """

    mask: Any
    weights: Any
    loss: Any
    value: float
    statistics: dict[str, float]
    _bounds: Any

    def surrogate(self, place: int, logprobs: Any) -> Any:
        """Scalar whose gradient is that of the loss through micro-batch ``place``; ``logprobs`` are
        those of its targets, with gradients."""
        part = self.weights[self._bounds[place] : self._bounds[place + 1]]
        if part.shape != logprobs.shape:
            raise UsageError(
                f"micro-batch {place} has {len(part)} targets, and logprobs {list(logprobs.shape)}"
            )
        return (part * logprobs).sum()
