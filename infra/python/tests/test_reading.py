"""Reading an archive: every row, filters, and the table of uses."""

from __future__ import annotations

import datetime
import json
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

import vintage
from small import ran


class Reading(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    run_folder: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.place = tempfile.TemporaryDirectory()
        cls.run_folder = ran(pathlib.Path(cls.place.name))
        files = str(cls.run_folder / "archive")
        cls.expected = pyarrow.dataset.dataset(
            [str(path) for path in pathlib.Path(files).rglob("*.parquet")]
        ).to_table()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def table(self, **more: object) -> pa.Table:
        return pa.Table.from_batches(list(vintage.read(self.run_folder, **more)))

    def test_every_row_of_the_files_is_read(self) -> None:
        found = self.table(rows=7)
        self.assertEqual(found.num_rows, self.expected.num_rows)
        self.assertGreaterEqual(found.num_rows, 64)
        mine = sorted(zip(found["group_id"].to_pylist(), found["sample_index"].to_pylist(),
                          found["offset"].to_pylist(), found["reward"].to_pylist(),
                          map(tuple, found["completion_tokens"].to_pylist())))
        theirs = self.expected
        files = sorted(zip(theirs["group_id"].to_pylist(), theirs["sample_index"].to_pylist(),
                           theirs["_kafka_offset"].to_pylist(), theirs["reward"].to_pylist(),
                           map(tuple, theirs["completion_tokens"].to_pylist())))
        self.assertEqual(mine, files)
        only = self.table(columns=["reward", "offset"])
        self.assertEqual(only.column_names, ["reward", "offset"])
        # The archive's own folder is the same source.
        rows = sum(b.num_rows for b in vintage.read(self.run_folder / "archive"))
        self.assertEqual(rows, found.num_rows)

    def test_filters_take_whole_groups(self) -> None:
        whole = self.table()
        prompt = whole["prompt_id"][0].as_py()
        found = self.table(where={"prompt": prompt})
        self.assertEqual(found.num_rows, pc.sum(pc.equal(whole["prompt_id"], prompt)).as_py())
        means = whole.group_by("group_id").aggregate([("reward", "mean")])
        good = pc.sum(pc.greater_equal(means["reward_mean"], 0.25)).as_py()
        found = self.table(where={"reward": (0.25, None)})
        self.assertEqual(found.num_rows, 4 * good)
        versions = [span["version"] for spans in whole["policy_spans"].to_pylist() for span in spans]
        found = self.table(where={"version": 0})
        self.assertEqual(found.num_rows, sum(version == 0 for version in versions))
        middle = whole["timestamp"][whole.num_rows // 2].as_py()
        after = middle + datetime.timedelta(milliseconds=1)
        for times in ((None, middle), (after, None)):
            read = vintage.read(self.run_folder, where={"time": times})
            within = pc.less_equal if times[0] is None else pc.greater_equal
            expected = pc.sum(within(whole["timestamp"], times[1] or times[0])).as_py()
            self.assertEqual(sum(batch.num_rows for batch in read), expected)
        half = self.table(where={"sample": (0.5, 3)})
        self.assertEqual(half, self.table(where={"sample": (0.5, 3)}))
        self.assertTrue(0 < half.num_rows < whole.num_rows)

    def test_uses_join_with_the_rollouts(self) -> None:
        uses = vintage.uses(self.run_folder)
        self.assertEqual(uses.num_rows, 4 * 4 * 4)
        self.assertEqual(sorted(set(uses["update"].to_pylist())), [0, 1, 2, 3])
        for number in range(4):
            result = json.loads((self.run_folder / f"results/lead/{number}.json").read_text())
            mine = uses.filter(pc.equal(uses["update"], number))
            self.assertAlmostEqual(pc.mean(mine["reward"]).as_py(), result["reward"], places=6)
            self.assertEqual(pc.max(mine["staleness"]).as_py(), result["max_staleness"])
            share = result["masked_tokens"] / result["tokens"]
            self.assertEqual(set(mine["update_masked_share"].to_pylist()), {share})
        advantages = uses.group_by(["update", "group"]).aggregate([("advantage", "sum")])
        self.assertTrue(all(abs(x) < 1e-5 for x in advantages["advantage_sum"].to_pylist()))
        keys = ["incarnation", "partition", "offset", "sample_index"]
        joined = uses.join(self.table().select([*keys, "reward"]), keys, right_suffix="_read")
        self.assertEqual(joined.num_rows, uses.num_rows)
        self.assertEqual(joined["reward"].to_pylist(), joined["reward_read"].to_pylist())

    def test_what_is_not_there_is_refused_by_name(self) -> None:
        for call, text in [
            (lambda: list(vintage.read(self.run_folder, columns=["rewards"])), '"rewards"'),
            (lambda: vintage.read(self.run_folder, where={"rewards": 1}), "'rewards'"),
            (lambda: vintage.read(self.run_folder, where={"reward": (2, 1)}), "nothing is in"),
            (lambda: vintage.read(self.run_folder, topic="other"), "no archive of other"),
            (lambda: vintage.read(self.run_folder / "plans"), "holds no archive"),
            (lambda: vintage.uses(self.run_folder, learner="b"), "no learner b"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                call()
            self.assertIn(text, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
