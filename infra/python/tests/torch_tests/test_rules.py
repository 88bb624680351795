"""The rules in PyTorch against the oracle's cases and the learner's own code."""

from __future__ import annotations

import unittest

import numpy as np
import torch

import vintage
from test_weigh import arrays, cases, close
from vintage.torch import m2po_mask, weigh


def tensors(columns: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(column) for column in columns]


class Rules(unittest.TestCase):
    def test_every_case_of_the_oracle_agrees(self) -> None:
        for case in cases():
            columns, tau = tensors(arrays(case)), case["threshold"]
            found, expected = weigh(*columns, threshold=tau), case["paper"]
            self.assertEqual(found.mask.int().tolist(), expected["mask"], case["id"])
            self.assertTrue(close(found.value, expected["loss"]), case["id"])
            for weight, grad in zip(found.weights.tolist(), expected["grad"]):
                self.assertTrue(close(weight, grad), (case["id"], weight, grad))
            for name in ("n_valid", "n_trust", "n_masked", "clip_frac", "m2_all_before"):
                self.assertTrue(close(found.statistics[name], expected[name]), (case["id"], name))
            clipped = weigh(*columns, rule="grpo", clip=0.2)
            self.assertTrue(close(clipped.value, case["ppo_eps0.2"]["loss"]), case["id"])

    def test_every_rule_gives_what_the_learners_own_code_gives(self) -> None:
        random = np.random.default_rng(0)
        for size in (1, 7, 4096, 100_000):
            for spread in (0.0, 0.02, 0.3, 4.0):
                behavior = -random.exponential(1.0, size).astype(np.float32)
                new = behavior + random.normal(0, spread, size).astype(np.float32)
                advantage = random.normal(0, 1, size).astype(np.float32)
                valid = random.random(size) < 0.9
                new[~valid] = np.nan
                for rule in ("m2po", "grpo", "none", "m2po_areal"):
                    expected = vintage.weigh(new, behavior, advantage, valid, rule=rule)
                    found = weigh(*tensors([new, behavior, advantage, valid]), rule=rule)
                    self.assertTrue(np.array_equal(found.mask.numpy(), expected["mask"]), rule)
                    np.testing.assert_allclose(
                        found.weights.numpy(), expected["weights"], rtol=2e-6, atol=1e-12
                    )
                    for name, value in found.statistics.items():
                        np.testing.assert_allclose(value, expected[name], rtol=1e-9, err_msg=name)
                    np.testing.assert_allclose(found.value, expected["loss"], rtol=1e-9, atol=1e-15)

    def test_masks_on_the_grid_are_exact_at_ties_and_at_the_budget(self) -> None:
        random = np.random.default_rng(1)
        masked = 0
        for _ in range(400):
            size = int(random.integers(1, 40))
            # Few values, so that squares are equal and sums meet the budget exactly.
            steps = random.integers(-4, 5, size)
            behavior = np.full(size, -2.0, dtype=np.float32)
            new = behavior + (steps / 16).astype(np.float32)
            advantage = random.choice([-1.0, 0.0, 1.0], size).astype(np.float32)
            valid = random.random(size) < 0.9
            tau = float(random.choice([0.0, 1 / 256, 0.015625, 0.03125, 0.04, 0.0625]))
            expected = vintage.weigh(new, behavior, advantage, valid, threshold=tau)["mask"]
            found = m2po_mask(*tensors([new, behavior, advantage, valid]), tau)
            self.assertEqual(found.tolist(), expected.tolist(), (steps, tau))
            masked += int((valid & ~expected).sum())
        self.assertGreater(masked, 500)

    def test_the_loss_has_the_weights_as_its_gradient(self) -> None:
        behavior = torch.tensor([-1.0, -1.0, -1.0, -1.0])
        new = torch.tensor([-0.9, -0.2, -1.1, -30.0], requires_grad=True)
        advantage, valid = torch.tensor([1.0, 1.0, 1.0, -1.0]), torch.tensor([True] * 4)
        found = weigh(new, behavior, advantage, valid)
        found.loss.backward()
        self.assertEqual(new.grad.tolist(), found.weights.tolist())
        self.assertEqual(found.mask.tolist(), [True, False, True, False])

    def test_what_is_not_finite_is_named(self) -> None:
        good = torch.tensor([-1.0, -1.0])
        bad = torch.tensor([-1.0, float("nan")])
        valid = torch.tensor([True, True])
        with self.assertRaises(vintage.UsageError) as raised:
            weigh(bad, good, good, valid)
        self.assertIn("valid token 1", str(raised.exception))
        # Padding may hold anything.
        weigh(bad, good, good, torch.tensor([True, False]))


if __name__ == "__main__":
    unittest.main()
