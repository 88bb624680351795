"""Shares of an update: every row once, as many passes on every rank, and loads that are close."""

from __future__ import annotations

import random
import unittest

import numpy as np

from vintage.batch import Batch, chosen
from vintage.shares import shares


def plan(tokens: np.ndarray, budget: int) -> np.ndarray:
    """Micro-batches as a plan cuts them."""
    bounds, used = [0], 0
    for row, count in enumerate(tokens.tolist()):
        if row > bounds[-1] and used + count > budget:
            bounds.append(row)
            used = 0
        used += count
    return np.array([*bounds, len(tokens)])


class Shares(unittest.TestCase):
    def test_one_rank_has_the_plan(self) -> None:
        tokens = np.array([3, 9, 4])
        (share,) = shares(tokens, np.array([0, 2, 3]), 1)
        self.assertEqual(share.rows.tolist(), [0, 1, 2])
        self.assertEqual(share.bounds.tolist(), [0, 2, 3])
        self.assertTrue(share.counted.all())

    def test_rows_are_dealt_by_their_tokens(self) -> None:
        found = shares(np.array([5, 1, 1, 9, 2, 4]), np.array([0, 6]), 2)
        self.assertEqual([share.rows.tolist() for share in found], [[3, 4], [0, 1, 2, 5]])
        self.assertEqual([share.bounds.tolist() for share in found], [[0, 2], [0, 4]])

    def test_any_batch_is_shared_evenly(self) -> None:
        chance = random.Random(5)
        for _ in range(300):
            count, size = chance.randint(1, 40), chance.randint(2, 8)
            tokens = np.array([chance.randint(2, 50) for _ in range(count)])
            bounds = plan(tokens, chance.randint(50, 400))
            budget = max(int(tokens[a:b].sum()) for a, b in zip(bounds[:-1], bounds[1:]))
            found = shares(tokens, bounds, size)
            again = shares(tokens.copy(), bounds.copy(), size)
            own = [share.rows[share.counted] for share in found]
            self.assertEqual(sorted(np.concatenate(own).tolist()), list(range(count)))
            self.assertEqual(len({len(share.bounds) for share in found}), 1, "as many passes")
            loads = [int(tokens[rows].sum()) for rows in own]
            self.assertLessEqual(max(loads) - min(loads), int(tokens.max()))
            for share, other in zip(found, again):
                self.assertEqual(share.rows.tolist(), other.rows.tolist())
                pieces = [share.rows[a:b] for a, b in zip(share.bounds[:-1], share.bounds[1:])]
                self.assertTrue(all(0 < tokens[piece].sum() <= budget for piece in pieces))

    def test_a_rank_without_rows_has_one_that_does_not_count(self) -> None:
        found = shares(np.array([7, 3]), np.array([0, 1, 2]), 4)
        self.assertEqual([share.rows.tolist() for share in found], [[0], [1], [1], [1]])
        self.assertEqual([bool(share.counted[0]) for share in found], [True, True, False, False])


class Chosen(unittest.TestCase):
    def test_chosen_rows_are_those_of_the_batch(self) -> None:
        lengths, counts = np.array([3, 5, 2, 4]), np.array([2, 3, 0, 1])
        starts, total = np.cumsum([0, *lengths]), int(counts.sum())
        ends = np.repeat(starts[1:], counts)
        back = np.concatenate([np.arange(count, 0, -1) for count in counts])
        arrays = {
            "input_ids": np.arange(int(lengths.sum())),
            "cu_seqlens": starts,
            "target_positions": ends - back,
            "target_counts": counts,
            "loss_mask": np.ones(total, dtype=bool),
            **{name: np.arange(total) for name in ("targets", "versions", "staleness")},
            **{name: np.arange(total) / 7 for name in ("temperature", "logprobs", "advantages")},
            **{name: np.arange(4) for name in ("groups", "samples", "rewards")},
        }
        whole = Batch.of(arrays, ["a"], lambda values: values)
        part = Batch.of(chosen(arrays, np.array([3, 1, 2, 1])), ["a"], lambda values: values)
        for place, row in enumerate((3, 1, 2, 1)):
            one, same = part.rows(place, place + 1), whole.rows(row, row + 1)
            for name in arrays:
                self.assertEqual(getattr(one, name).tolist(), getattr(same, name).tolist(), name)


if __name__ == "__main__":
    unittest.main()
