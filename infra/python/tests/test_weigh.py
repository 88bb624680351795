"""vintage.weigh against cases whose masks were decided in exact rational arithmetic."""

from __future__ import annotations

import json
import math
import unittest

import numpy as np

import vintage
from small import REPOSITORY

CASES = REPOSITORY / "consumers/losses/tests/oracle/m2po_cases.jsonl"


def cases() -> list[dict]:
    return [json.loads(line) for line in CASES.read_text().splitlines() if line.strip()]


def arrays(case: dict) -> list[np.ndarray]:
    columns = [case[name] for name in ("logprob_new", "logprob_behav", "advantages")]
    return [np.array(column, dtype=np.float64) for column in columns] + [
        np.array(case["loss_mask"], dtype=bool)
    ]


def close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-300)


class Weigh(unittest.TestCase):
    def test_every_case_of_the_oracle_agrees(self) -> None:
        checked = 0
        for case in cases():
            found = vintage.weigh(*arrays(case), threshold=case["threshold"])
            expected = case["paper"]
            self.assertEqual(found["mask"].astype(int).tolist(), expected["mask"], case["id"])
            for name in ("loss", "m2_trust_before", "m2_trust_after", "m2_all_before", "clip_frac"):
                self.assertTrue(close(found[name], expected[name]), (case["id"], name, found[name]))
            for weight, grad in zip(found["weights"], expected["grad"]):
                self.assertTrue(close(weight, grad), (case["id"], weight, grad))
            checked += 1
        self.assertEqual(checked, 201)

    def test_what_does_not_fit_is_refused_by_name(self) -> None:
        new = np.array([-1.0, -2.0], dtype=np.float32)
        for arguments, text in [
            ((new, new[:1], new), "`behavior`"),
            ((new, new, np.array([1.0, math.nan])), "valid token 1"),
            ((new, new, np.zeros((2, 1))), "`advantage`"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                vintage.weigh(*arguments)
            self.assertIn(text, str(raised.exception))
        with self.assertRaises(vintage.UsageError):
            vintage.weigh(new, new, new, rule="ppo")


if __name__ == "__main__":
    unittest.main()
