"""Datasets in PyTorch's loaders, and tensors that a writer takes."""

from __future__ import annotations

import pathlib
import tempfile
import unittest

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import vintage
from small import ran
from vintage.torch import RolloutStream, collate
from vintage.writer import _array, _numbers


def keys(batches: object) -> list[tuple[str, int]]:
    return [key for batch in batches for key in zip(batch["group"], batch["sample"])]


class Loading(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    run_folder: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.place = tempfile.TemporaryDirectory()
        cls.run_folder = ran(pathlib.Path(cls.place.name), learner__steps=3)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def loader(self, workers: int) -> StatefulDataLoader:
        stream = RolloutStream(self.run_folder, seed=2)
        return StatefulDataLoader(stream, batch_size=3, num_workers=workers, collate_fn=collate)

    def test_a_stateful_loader_goes_on_in_the_middle_of_an_epoch(self) -> None:
        for workers in (0, 2):
            whole = keys(self.loader(workers))
            self.assertEqual(len(set(whole)), len(whole))
            self.assertEqual(len(whole), len(vintage.Rollouts(self.run_folder)))
            for stop in (1, 4):
                first = self.loader(workers)
                seen = []
                for batch in first:
                    seen.append(batch)
                    if len(seen) == stop:
                        state = first.state_dict()
                        break
                second = self.loader(workers)
                second.load_state_dict(state)
                self.assertEqual(keys(seen) + keys(second), whole)

    def test_a_plain_loader_has_every_rollout_once_in_tensors(self) -> None:
        whole = vintage.Rollouts(self.run_folder)
        for workers in (0, 2):
            loader = DataLoader(whole, batch_size=4, num_workers=workers, collate_fn=collate)
            batches = list(loader)
            self.assertEqual(keys(batches), [(item["group"], item["sample"]) for item in whole])
            self.assertEqual(batches[0]["input_ids"].dtype, torch.int64)
            self.assertEqual(batches[0]["loss_mask"].dtype, torch.bool)

    def test_tensors_of_any_kind_are_taken_as_they_are(self) -> None:
        exact = torch.tensor([-0.5, -1.25], requires_grad=True)
        for given in (exact, exact.double(), exact.half(), exact.bfloat16()):
            taken = _array("logprobs[0]", given, "f", np.float32)
            self.assertEqual((taken.dtype, taken.tolist()), (np.float32, [-0.5, -1.25]))
        ids = _array("completions[0]", torch.tensor([3, 4], dtype=torch.int32), "iu", np.int64)
        self.assertEqual((ids.dtype, ids.tolist()), (np.int64, [3, 4]))
        self.assertEqual(_numbers("rewards", torch.tensor([1.0, 0.0]), 2), [1.0, 0.0])
        mask = _array("loss_masks[0]", torch.tensor([True, False]), "b", np.uint8)
        self.assertEqual(mask.tolist(), [1, 0])
        with self.assertRaises(vintage.UsageError) as raised:
            _array("completions[0]", torch.tensor([3.0]), "iu", np.int64)
        self.assertIn("completions[0] has dtype float32", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
