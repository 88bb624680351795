"""M2PO and the rules it is compared with, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from .arrays import all_taken

#: Statistics of a rule, in the order in which :mod:`vintage.torch` computes them.
STATISTICS = (
    "n_valid",
    "n_trust",
    "n_masked",
    "n_clamped",
    "clip_frac",
    "m2_all_before",
    "m2_rule_before",
    "m2_rule_after",
    "kl_k1",
    "max_kept_log_ratio",
)


def weigh(
    new: ArrayLike,
    behavior: ArrayLike,
    advantage: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    rule: str = "m2po",
    threshold: float = 0.04,
    clip: float = 0.2,
    clamp: float = 20.0,
    proximal: ArrayLike | None = None,
) -> dict[str, Any]:
    """Weighs the tokens of one update.

    All arrays have shape ``[N]``: log-probs ``new`` under the policy that is trained and
    ``behavior`` under the one that sampled, in nats; the ``advantage`` of each token; and whether a
    token is ``valid``, that is, trained on (all, if not given). Arrays are taken as float32 unless
    ``new`` is float64.

    ``rule`` is one of ``m2po`` (the paper's Algorithm 1), ``m2po_areal``, ``m2po_fork``, ``grpo``
    and ``none``; ``threshold`` is tau of M2PO, ``clip`` the half-width of PPO's clip, ``clamp`` the
    bound on a log-ratio before it is exponentiated. ``proximal`` are the proximal policy's
    log-probs for ``m2po_areal``; ``new`` if not given.

    Returns a dictionary: ``mask`` (bool ``[N]``), ``weights`` (derivative of the loss by ``new``,
    ``[N]``), ``loss``, and statistics of what the rule did.

    Raises :class:`UsageError` for arrays of unlike lengths or dtypes, and for NaN or infinity on a
    valid token, which is named.
    """
    new_array = np.ascontiguousarray(new)
    dtype = np.float64 if new_array.dtype == np.float64 else np.float32
    first: NDArray[Any] = np.ascontiguousarray(new_array, dtype=dtype)
    second: NDArray[Any] = np.ascontiguousarray(behavior, dtype=dtype)
    third: NDArray[Any] = np.ascontiguousarray(advantage, dtype=dtype)
    if valid is None:
        mask = np.ones(first.shape, dtype=bool)
    else:
        mask = np.ascontiguousarray(valid, dtype=bool)
    prox = None if proximal is None else np.ascontiguousarray(proximal, dtype=dtype)
    algorithm = {
        "name": rule,
        "m2_threshold": float(threshold),
        "clip_eps": float(clip),
        "log_ratio_clamp": float(clamp),
    }
    found = _native.weigh(
        first,
        second,
        third,
        mask.view(np.uint8),
        algorithm=algorithm,
        wide=dtype is np.float64,
        proximal=prox,
    )
    return all_taken(found)
