"""A producer in Python: what it publishes, what it refuses, and what a kill leaves."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np
import pyarrow as pa

import vintage
from small import audited, program, settings, vintage as call
from write_me import sampled

SCRIPT = pathlib.Path(__file__).with_name("write_me.py")


class Writing(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    folder: pathlib.Path
    broker: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.place = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.place.name)
        up = call("broker", "up", "--dir", cls.folder / "kafka", "--output", "json")
        assert up.returncode == 0, up.stderr
        cls.broker = json.loads(up.stdout)["bootstrap"]

    @classmethod
    def tearDownClass(cls) -> None:
        call("broker", "down", "--dir", cls.folder / "kafka")
        cls.place.cleanup()

    def begin(self, name: str, **more: object) -> pathlib.Path:
        """Starts learner and archive of a run whose only producer will be Python."""
        out = self.folder / name
        chosen = settings(self.folder, run=name, broker=self.broker, **more)
        # The log-probs here are made up, which the learner would notice.
        chosen["learner.mismatch.tolerance"] = 100.0
        words = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
        self.roles = []
        for command in (["learn", "--out", out, *words], ["archive", "--out", out, "--broker", self.broker]):
            role = subprocess.Popen(
                [program(), *map(str, command)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.roles.append(role)
            self.addCleanup(self.end_role, role)
        return out

    def end_role(self, role: subprocess.Popen[str]) -> None:
        if role.poll() is None:
            role.kill()
        role.communicate()

    def finish(self, out: pathlib.Path) -> dict[str, object]:
        """Waits for the learner, ends the archive, and returns the audited account."""
        learner, archive = self.roles
        stderr = learner.communicate(timeout=60)[1]
        self.assertEqual(learner.returncode, 0, stderr)
        archive.send_signal(signal.SIGTERM)
        stderr = archive.communicate(timeout=60)[1]
        self.assertEqual(archive.returncode, 0, stderr)
        return audited(out)

    def test_what_is_written_is_read_and_trained(self) -> None:
        out = self.begin("whole")
        written: dict[tuple[int, int], tuple[vintage.Slot, list[list[int]], list[float]]] = {}
        with vintage.Writer(out, name="a-script", settings={"broker": self.broker}) as writer:
            taken = self.refused(writer)
            self.forked(writer)
            self.differing(out)
            model = pathlib.Path(writer.weights(0))
            self.assertTrue({"config.json", "model.safetensors"} <= {file.name for file in model.iterdir()})
            self.assertEqual(writer.weights(0), str(model))
            numbers: list[int] = []
            for count, slot in enumerate(itertools.chain(taken, writer)):
                self.assertEqual((slot.samples, slot.max_tokens, slot.exact), (4, 2, False))
                self.assertEqual(slot.prompt, slot.answer + "=")
                rows, logprobs, rewards = sampled(slot)
                forms = [rows, [np.array(row, dtype=np.int32) for row in rows]]
                place = writer.write(
                    slot,
                    forms[count % 2],
                    [np.array(row) for row in logprobs],
                    rewards=np.array(rewards),
                    versions=[slot.version] * 4 if count % 3 else None,
                    reward_parts=[{"right": reward} for reward in rewards],
                    seconds=0.5,
                )
                if place is not None:
                    numbers.append(place.number)
                    written[place[:2]] = (slot, rows, rewards)
            self.assertIsNone(writer.take())
            self.read_live(out, written)
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertEqual(writer.summary["groups"], len(numbers))
        self.assertGreaterEqual(len(numbers), 16)
        account = self.finish(out)
        table = pa.Table.from_batches(list(vintage.read(out)))
        found: dict[tuple[int, int], list[dict[str, object]]] = {}
        for row in table.to_pylist():
            found.setdefault((row["partition"], row["offset"]), []).append(row)
        self.assertEqual(set(found), set(written))
        for place, (slot, rows, rewards) in written.items():
            there = sorted(found[place], key=lambda row: row["sample_index"])
            self.assertEqual([row["completion_tokens"] for row in there], rows)
            self.assertEqual([row["reward"] for row in there], rewards)
            for row in there:
                self.assertEqual(row["prompt_tokens"], slot.prompt_tokens)
                self.assertEqual(row["engine"], f"vintage-given/{vintage.__version__} a-script")
                self.assertEqual(row["policy_spans"], [{"start": 0, "version": slot.version}])
                self.assertTrue(row["producer"].startswith("a-script-"), row["producer"])
                self.assertEqual(dict(row["reward_parts"]), {"right": row["reward"]})
        self.assertGreaterEqual(account["trained"], 16)

    def refused(self, writer: vintage.Writer) -> list[vintage.Slot]:
        """Nothing of what does not fit is published, and the slot stays open. Returns slots that were
        taken until there was none."""
        slot = writer.take()
        rows = [[1], [2, 3], [4], [5]]
        logprobs = [[-1.0], [-1.0, -0.5], [-2.0], [0.0]]
        rewards = [0.0, 1.0, 0.0, 0.0]
        nan = [[-1.0], [-1.0, float("nan")], [-2.0], [0.0]]
        far = [1 << 40, 2, 3, 4]
        for changed, text in [
            ({"completions": rows[:3]}, "completions has 3 rows"),
            ({"completions": [[1], [2, 3], [], [5]]}, "completions[2] is empty"),
            ({"completions": [[1], [2.5, 3], [4], [5]]}, "completions[1] has dtype float64"),
            ({"completions": [[1], [[2, 3]], [4], [5]]}, "completions[1] has shape [1, 2]"),
            ({"completions": [[1], [2, 999], [4], [5]]}, "completions[1][1] is 999"),
            ({"logprobs": nan}, "logprobs[1][1] is NaN"),
            ({"logprobs": [[-1.0], [-1.0, 0.5], [-2.0], [0.0]]}, "logprobs[1][1] is 0.5"),
            ({"logprobs": [[-1.0], [-1.0], [-2.0], [0.0]]}, "logprobs[1] has 1 values"),
            ({"logprobs": [np.array([-1]), *logprobs[1:]]}, "logprobs[0] has dtype int64"),
            ({"rewards": None}, "rewards are missing"),
            ({"rewards": [1.0]}, "rewards has 1 rows"),
            ({"rewards": [0.0, np.nan, 0.0, 0.0]}, "rewards[1] is NaN"),
            ({"versions": far}, "versions[0][0] is 1099511627776"),
            ({"versions": [[0], [1, 0], [0], [0]]}, "versions[1]"),
            ({"versions": 0.5}, "versions is 0.5"),
            ({"loss_masks": [[1], [1, 0], [1], [1]]}, "loss_masks[0] has dtype int64"),
            ({"finish_reasons": ["stop", "abort", "stop", "stop"]}, "finish_reasons[1]"),
        ]:
            given = {"completions": rows, "logprobs": logprobs, "rewards": rewards, **changed}
            with self.assertRaises(vintage.UsageError) as raised:
                writer.submit(slot, given.pop("completions"), given.pop("logprobs"), **given)
            self.assertIn(text, str(raised.exception))
        writer.give_up(slot, "a test")
        with self.assertRaises(vintage.UsageError):
            writer.write(slot, rows, logprobs, rewards=rewards)
        slots = []
        with self.assertRaises(TimeoutError):
            while True:
                slots.append(writer.take(timeout=0.0))
        return slots

    def read_live(self, out: pathlib.Path, written: dict[tuple[int, int], object]) -> None:
        """A run that still archives, and its topic alone: every group once, with its place."""
        places = ["partition", "offset", "sample_index"]
        topic = f"kafka://{self.broker}/vintage.whole.rollouts.v1"
        for source, live in [(out, True), (topic, False)]:
            batches = list(vintage.read(source, live=live, columns=places))
            rows = pa.Table.from_batches(batches).to_pylist()
            found = [(row["partition"], row["offset"]) for row in rows]
            self.assertEqual(sorted(found), sorted(4 * list(written)))
            with self.assertRaises(vintage.UsageError):
                vintage.read(source, live=live, where={"reward": 1})

    def test_groups_in_flight_are_awaited_and_scored_by_the_run(self) -> None:
        out = self.begin("flight", learner__steps=2)
        writer = vintage.Writer(out, settings={"broker": self.broker}, score=True)

        async def write(slots: list[vintage.Slot]) -> list[vintage.Place | None]:
            futures = []
            for slot in slots:
                rows = [[int(slot.answer)]] * 2 + [[(int(slot.answer) + 1) % 10]] * 2
                rows = [[slot.prompt_tokens[0] + row[0] - int(slot.answer)] for row in rows]
                future = writer.submit(slot, rows, [[-1.0]] * 4)
                futures.append(asyncio.wrap_future(future))
            return await asyncio.gather(*futures)

        places = []
        for slots in writer.batches(4):
            self.assertTrue(1 <= len(slots) <= 4)
            places.extend(asyncio.run(write(slots)))
        writer.close()
        writer.close()
        self.finish(out)
        table = pa.Table.from_batches(list(vintage.read(out)))
        self.assertEqual(table.num_rows, 4 * sum(place is not None for place in places))
        for row in table.to_pylist():
            right = row["completion_tokens"][0] == row["prompt_tokens"][0]
            self.assertEqual(row["reward"], float(right))
        self.assertEqual(set(table["reward"].to_pylist()), {0.0, 1.0})

    def child(self, out: pathlib.Path, mode: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "faulthandler", str(SCRIPT), str(out), self.broker, mode]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.end_role, child)
        return child

    def until(self, child: subprocess.Popen[str], words: str) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(words):
                return
        self.fail(f"{words}: {child.communicate()}")

    def ended(self, child: subprocess.Popen[str], seconds: float) -> str:
        """What a child said that ended in good order; one that does not end says where it is."""
        try:
            said, stderr = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)
            self.fail(f"not ended within {seconds} s: {child.communicate()}")
        self.assertEqual(child.returncode, 0, stderr)
        return said

    def test_killed_anywhere_it_loses_and_repeats_nothing(self) -> None:
        out = self.begin("killed", learner__steps=5)
        held = self.child(out, "hold")
        self.until(held, "holding")
        held.send_signal(signal.SIGINT)
        self.assertIn("interrupted", self.ended(held, 30))
        draw = random.Random(int(os.environ.get("VINTAGE_TEST_SEED", "7")))
        for words in ("submitted", "written"):
            child = self.child(out)
            self.until(child, words)
            time.sleep(draw.choice([0.0, 0.002, 0.02]))
            child.kill()
            child.communicate()
        left = self.child(out, "leave")
        self.assertIn("leaving", self.ended(left, 60))
        self.ended(self.child(out), 120)
        self.finish(out)
        # The program that left without closing had submitted two groups, and both are there.
        journals = {path.name: path.read_text() for path in (out / "producers").glob("*.acks")}
        self.assertEqual(len(journals), 5, journals.keys())
        self.assertIn("0\n1\n", journals.values())
        table = pa.Table.from_batches(list(vintage.read(out, columns=["producer", "producer_seq"])))
        rows = set(zip(table["producer"].to_pylist(), table["producer_seq"].to_pylist()))
        for name, text in journals.items():
            for number in text.split():
                self.assertIn((name.removesuffix(".acks"), int(number)), rows)

    def test_what_no_run_takes_is_refused_at_once(self) -> None:
        for call_it, text in [
            (lambda: vintage.Writer(self.folder / "new", name="A b"), "name"),
            (lambda: vintage.Writer(self.folder / "new", settings={"rollout.tokens": 1}), "tokens"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                call_it()
            self.assertIn(text, str(raised.exception))

    def differing(self, out: pathlib.Path) -> None:
        """A writer with other settings than its run's gets no slot, and the reason."""
        with self.assertRaises(vintage.UsageError) as raised:
            vintage.Writer(out, settings={"broker": self.broker, "rollout.max_tokens": 9}).take()
        self.assertIn("rollout.max_tokens", str(raised.exception))

    def forked(self, writer: vintage.Writer) -> None:
        child = os.fork()
        if child == 0:
            try:
                writer.take(0.0)
            except RuntimeError as error:
                os._exit(7 if "forked" in str(error) else 1)
            except BaseException:
                os._exit(2)
            os._exit(3)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 7)


if __name__ == "__main__":
    unittest.main()
