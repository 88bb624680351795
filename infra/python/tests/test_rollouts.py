"""Archived rollouts as datasets: items, order, shares of ranks, and a resume in mid-epoch."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pathlib
import pickle
import tempfile
import unittest

import numpy as np
import pyarrow as pa

import vintage
from small import ran


def keys(items: object) -> list[tuple[str, int]]:
    return [(item["group"], item["sample"]) for item in items]


def in_worker(dataset: vintage.Rollouts, answers: multiprocessing.Queue) -> None:
    answers.put([(item["group"], item["input_ids"].tolist()) for item in dataset])


class Datasets(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    run_folder: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.place = tempfile.TemporaryDirectory()
        cls.run_folder = ran(pathlib.Path(cls.place.name), learner__steps=3)
        cls.table = pa.Table.from_batches(list(vintage.read(cls.run_folder)))

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def test_items_are_the_rows_of_the_archive(self) -> None:
        dataset = vintage.Rollouts(self.run_folder, shuffle=False, columns=["engine"])
        rows = self.table.to_pylist()
        self.assertEqual(len(dataset), len(rows))
        for item, row in zip(dataset, rows):
            first = len(row["prompt_tokens"])
            ids = row["prompt_tokens"] + row["completion_tokens"]
            self.assertEqual(item["input_ids"].tolist(), ids)
            self.assertEqual(item["loss_mask"].tolist(), [place >= first for place in range(len(ids))])
            self.assertEqual(item["logprobs"][first:].tolist(), row["behavior_logprobs"])
            self.assertTrue((item["logprobs"][:first] == 0).all())
            versions = [-1] * len(ids)
            for span in row["policy_spans"]:
                start = first + span["start"]
                versions[start:] = [span["version"]] * (len(ids) - start)
            self.assertEqual(item["versions"].tolist(), versions)
            self.assertEqual(item["reward"], row["reward"])
            self.assertEqual(item["group"], row["group_id"].hex())
            self.assertEqual((item["sample"], item["engine"]), (row["sample_index"], row["engine"]))
        self.assertEqual(keys([dataset[-1]]), keys([dataset[len(dataset) - 1]]))
        with self.assertRaises(IndexError):
            dataset[len(dataset)]

    def test_order_follows_from_seed_and_epoch_and_ranks_share_groups(self) -> None:
        whole = vintage.Rollouts(self.run_folder, seed=3)
        order = whole.groups
        self.assertNotEqual(order, vintage.Rollouts(self.run_folder, shuffle=False).groups)
        self.assertEqual(order, vintage.Rollouts(self.run_folder, seed=3).groups)
        self.assertNotEqual(order, vintage.Rollouts(self.run_folder, seed=4).groups)
        whole.set_epoch(1)
        self.assertNotEqual(order, whole.groups)
        self.assertEqual(sorted(order), sorted(whole.groups))
        shares = [
            vintage.Rollouts(self.run_folder, seed=3, rank=rank, world_size=3).groups
            for rank in range(3)
        ]
        self.assertEqual(len({len(share) for share in shares}), 1)
        self.assertEqual([g for row in zip(*shares) for g in row], order[: 3 * (len(order) // 3)])
        # Items of a group follow one another, in both ways of asking.
        groups = [group for group, sample in keys(whole) if sample == 0]
        self.assertEqual(groups, whole.groups)

    def test_a_stream_goes_on_where_it_was(self) -> None:
        stream = vintage.RolloutStream(self.run_folder, seed=5)
        stream.set_epoch(2)
        expected = keys(stream)
        self.assertEqual(expected, keys(stream), "an epoch can be read again")
        for stop in (0, 1, 7, len(expected)):
            first = vintage.RolloutStream(self.run_folder, seed=5)
            first.set_epoch(2)
            taken = list(itertools.islice(iter(first), stop))
            state = json.loads(json.dumps(first.state_dict()))
            self.assertEqual(state["position"], stop)
            second = vintage.RolloutStream(self.run_folder, seed=5)
            second.load_state_dict(state)
            self.assertEqual(second.state_dict(), state)
            self.assertEqual(keys(taken) + keys(second), expected)
        # A state of a smaller archive: what came since is left out.
        half = len(stream.rollouts._ids) // 2
        state = {**stream.state_dict(), "position": 0, "groups": half}
        state["digest"] = stream.rollouts._digest(half)
        second.load_state_dict(state)
        self.assertEqual(len(set(group for group, _ in keys(second))), half)

    def test_a_state_of_something_else_is_refused(self) -> None:
        stream = vintage.RolloutStream(self.run_folder, seed=5)
        state = stream.state_dict()
        for changed, text in [
            ({"seed": 6}, "seed=6"),
            ({"world_size": 2}, "world_size=2"),
            ({"digest": "0"}, "other groups"),
            ({"groups": 10**6}, "other groups"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                stream.load_state_dict({**state, **changed})
            self.assertIn(text, str(raised.exception))
        stream.load_state_dict({**state, "worker": [1, 2]})
        with self.assertRaises(vintage.UsageError) as raised:
            next(iter(stream))
        self.assertIn("as many workers", str(raised.exception))
        for call, text in [
            (lambda: vintage.Rollouts(self.run_folder, rank=2, world_size=2), "rank=2"),
            (lambda: vintage.Rollouts(self.run_folder, world_size=10**6), "ranks need one each"),
            (lambda: vintage.Rollouts(self.run_folder, where={"prompt": "no"}), "no rollout"),
            (lambda: vintage.Rollouts(self.run_folder, columns=["rewards"]), '"rewards"'),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                call()
            self.assertIn(text, str(raised.exception))

    def test_workers_read_by_themselves_and_the_file_goes_with_the_dataset(self) -> None:
        dataset = vintage.Rollouts(self.run_folder, seed=1)
        expected = [(item["group"], item["input_ids"].tolist()) for item in dataset]
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            answers = context.Queue()
            worker = context.Process(target=in_worker, args=(dataset, answers))
            worker.start()
            self.assertEqual(answers.get(timeout=60), expected)
            worker.join(60)
            self.assertEqual(worker.exitcode, 0)
        path = dataset._path
        copy = pickle.loads(pickle.dumps(dataset))
        self.assertEqual(copy.groups, dataset.groups)
        del copy
        self.assertTrue(os.path.exists(path))
        del dataset
        self.assertFalse(os.path.exists(path))

    def test_collated_rows_are_padded_on_the_right(self) -> None:
        items = list(vintage.Rollouts(self.run_folder))[:5]
        wide = vintage.collate(items, pad_id=9)
        longest = max(len(item["input_ids"]) for item in items)
        self.assertEqual(wide["input_ids"].shape, (5, longest))
        for row, item in enumerate(items):
            length = len(item["input_ids"])
            self.assertEqual(wide["attention_mask"][row].sum(), length)
            np.testing.assert_array_equal(wide["input_ids"][row, :length], item["input_ids"])
            self.assertTrue((wide["input_ids"][row, length:] == 9).all())
            self.assertFalse(wide["loss_mask"][row, length:].any())
            self.assertTrue((wide["versions"][row, length:] == -1).all())
        self.assertEqual(wide["group"], [item["group"] for item in items])
        self.assertEqual(wide["rewards"].dtype, np.float32)

    def test_a_dataset_of_hugging_face_has_every_row(self) -> None:
        try:
            import datasets
        except ImportError:
            with self.assertRaises(vintage.UsageError) as raised:
                vintage.to_dataset(self.run_folder)
            self.assertIn("pip install", str(raised.exception))
            return
        found = vintage.to_dataset(self.run_folder)
        self.assertIsInstance(found, datasets.Dataset)
        self.assertEqual(found["reward"], self.table["reward"].to_pylist())
        rows = self.table.to_pylist()
        for one, row in zip(found, rows):
            self.assertEqual(one["group_id"], row["group_id"].hex())
            self.assertEqual(one["completion_tokens"], row["completion_tokens"])
            pairs = [(pair["key"], pair["value"]) for pair in one["metadata"]]
            self.assertEqual(pairs, row["metadata"])


if __name__ == "__main__":
    unittest.main()
