"""Shares of an update: which rows of its batch each rank computes, as a function of its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Share:
    """Rows of one rank.

    ``rows`` are places in the whole batch, micro-batch after micro-batch; ``bounds`` the first row of
    each micro-batch, and the number of rows. ``counted`` is false for a row that another rank trains:
    it stands in where this rank has no row of its own for a pass that all ranks make together.
    """

    rows: Indices
    bounds: Indices
    counted: NDArray[np.bool_]


def shares(tokens: Indices, bounds: Indices, size: int) -> list[Share]:
    """Share of each of ``size`` ranks.

    ``tokens`` are those of each row, ``bounds`` the plan's micro-batches as in :class:`Share`.

    The longest rows go first, each to the rank that has the fewest tokens. A rank's rows, in the
    order of the batch, are cut where they would exceed the plan's largest micro-batch. All ranks have
    as many micro-batches, because sharded models and averaged gradients need all ranks in each pass;
    a rank with fewer cuts its largest in two, and one without enough rows takes the batch's shortest
    row as one that does not count.
    """
    if size == 1:
        every = np.arange(len(tokens))
        return [Share(every, bounds, np.ones(len(tokens), dtype=bool))]
    budget = max(int(tokens[a:b].sum()) for a, b in zip(bounds[:-1], bounds[1:]))
    cut = [_cut(rows, tokens, budget) for rows in _dealt(tokens, size)]
    count = max(len(pieces) for pieces in cut)
    return [_filled(pieces, tokens, count) for pieces in cut]


def _dealt(tokens: Indices, size: int) -> list[list[int]]:
    dealt: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for row in np.argsort(-tokens, kind="stable").tolist():
        rank = loads.index(min(loads))
        dealt[rank].append(row)
        loads[rank] += int(tokens[row])
    return [sorted(rows) for rows in dealt]


def _cut(rows: list[int], tokens: Indices, budget: int) -> list[list[int]]:
    pieces: list[list[int]] = []
    used = 0
    for row in rows:
        if not pieces or used + int(tokens[row]) > budget:
            pieces.append([])
            used = 0
        pieces[-1].append(row)
        used += int(tokens[row])
    return pieces


def _filled(pieces: list[list[int]], tokens: Indices, count: int) -> Share:
    pieces = list(pieces)
    while len(pieces) < count:
        large = max(range(len(pieces)), key=lambda at: len(pieces[at]), default=None)
        if large is None or len(pieces[large]) < 2:
            break
        rows = pieces[large]
        pieces[large : large + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    own = sum(len(rows) for rows in pieces)
    pieces += [[int(np.argmin(tokens))]] * (count - len(pieces))
    rows = [row for piece in pieces for row in piece]
    bounds = np.cumsum([0, *(len(piece) for piece in pieces)])
    return Share(np.array(rows, dtype=np.int64), bounds, np.arange(len(rows)) < own)


def spans(starts: Any, rows: Indices) -> Indices:
    """Places of all elements of ``rows``, where those of row ``r`` are ``starts[r]`` to
    ``starts[r + 1]``."""
    first, lengths = starts[rows], starts[rows + 1] - starts[rows]
    before = np.cumsum(lengths) - lengths
    places: Indices = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return places
