"""The learner without PyTorch: a program that trains by arrays alone."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import tempfile
import threading
import unittest

import numpy as np

import vintage
from small import audited, settings, vintage as program


def commit(update: vintage.Update, by: float = 1e-3) -> dict:
    """Commits an update that moves every parameter a little."""
    values, first, second, steps = update.state()
    update.weigh(np.array(np.asarray(update.batch.logprobs)))
    moved = {name: value + np.float32(by) for name, value in values.items()}
    first = {name: first.get(name, np.zeros(v.shape, np.float32)) for name, v in values.items()}
    second = {name: second.get(name, np.zeros(v.shape, np.float32)) for name, v in values.items()}
    return update.commit(moved, (first, second, steps + 1), grad_norm=0.5)


class Arrays(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        self.run_folder = self.folder / "run"

    def open(self, **more: object) -> vintage.Learner:
        learner = vintage.Learner(self.run_folder, settings=settings(self.folder, **more))
        self.addCleanup(learner.close)
        return learner

    def test_groups_of_earlier_updates_are_trained_again(self) -> None:
        again = []
        with self.open(learner__replay__share=0.25) as learner:
            for update in learner:
                batch = update.batch
                reused = update.plan.get("reused", [])
                self.assertEqual(len(reused), min(update.number, 1))
                names = [use["group"]["group"] for use in reused]
                self.assertEqual(batch.group_ids[3:], names)
                self.assertEqual(len(batch), 4 * len(batch.group_ids))
                self.assertEqual(int(np.asarray(batch.groups).max()), len(batch.group_ids) - 1)
                commit(update)
                again += [(update.number, use["first_trained"], name)
                          for use, name in zip(reused, names)]
        account = audited(self.run_folder)
        self.assertEqual((account["trained"], account["reused"]), (12, 3), account)
        rows = vintage.uses(self.run_folder).to_pylist()
        self.assertEqual(len(rows), 4 * (12 + 3))
        found = {(row["update"], row["first_trained"], row["group"])
                 for row in rows if row["first_trained"] != row["update"]}
        self.assertEqual(found, set(again))

    def test_what_only_rust_computes_is_refused_at_the_start(self) -> None:
        for setting, value in [
            ("learner__reuse", 2),
            ("learner__kl__beta", 0.1),
            ("algorithm", "gspo"),
            ("m2po__scope", "staleness"),
        ]:
            with self.subTest(setting), self.assertRaises(vintage.UsageError):
                self.open(**{setting: value})
        with self.assertRaises(vintage.UsageError):
            self.open(algorithm="grpo", loss__dual_clip=3.0)

    def test_a_run_is_trained_resumed_and_audited(self) -> None:
        numbers = []
        with self.open() as learner:
            for update in learner:
                plan = json.loads(
                    (self.run_folder / f"plans/lead/{update.number}.json").read_text()
                )
                self.assertEqual(plan, update.plan, "the plan is durable before the update")
                self.assertEqual(plan["fingerprint"]["device"], "torch")
                batch = update.batch
                self.assertEqual(len(batch), 16)
                self.assertEqual(batch.group_ids, [group["group"] for group in plan["groups"]])
                result = commit(update)
                self.assertEqual(result["tokens"], int(np.asarray(batch.loss_mask).sum()))
                self.assertEqual(result["loss"] != 0 or result["equal_groups"] == 4, True)
                ages = np.asarray(batch.staleness)[np.asarray(batch.loss_mask)]
                for age, count in result["staleness"].items():
                    self.assertEqual(int((ages == int(age)).sum()), count)
                numbers.append(update.number)
                if update.number == 2:
                    break
        self.assertIsNotNone(learner.summary)
        # The learner ended with a checkpoint of version 3: nothing is run again.
        with self.open() as learner:
            for update in learner:
                commit(update)
                numbers.append(update.number)
        self.assertEqual(numbers, [0, 1, 2, 3])
        assert learner.summary is not None
        self.assertTrue(learner.summary["finished"])
        account = audited(self.run_folder)
        self.assertEqual(account["trained"], 16, account)
        rest = sum(account["rejected"].values()) + account["in_flight"] + account["lost"]
        self.assertEqual(account["produced"], 16 + rest, account)
        replay = program("replay", "--exact", self.run_folder)
        self.assertEqual(replay.returncode, 2, replay.stderr)
        self.assertIn("computed by PyTorch", replay.stderr)
        # A finished run gives no update.
        with self.open() as learner:
            self.assertEqual(list(learner), [])

    def test_padded_rows_hold_what_packed_rows_hold(self) -> None:
        with self.open() as learner:
            update = next(iter(learner))
            batch, padded = update.batch, update.padded(pad_id=-7)
            for name in ("logprobs", "advantages", "loss_mask", "versions", "staleness"):
                values = np.asarray(padded.flat(getattr(padded, name)))
                self.assertEqual(values.tolist(), np.asarray(getattr(batch, name)).tolist(), name)
            wide, mask = np.asarray(padded.input_ids), np.asarray(padded.attention_mask)
            starts = np.asarray(batch.cu_seqlens)
            for row in range(len(batch)):
                inputs = np.asarray(batch.input_ids)[starts[row] : starts[row + 1]].tolist()
                mine = np.asarray(batch.target_rows) == row
                last = np.asarray(batch.targets)[mine].tolist()[-1]
                self.assertEqual(wide[row][mask[row] == 1].tolist(), inputs + [last])
                self.assertTrue((wide[row][mask[row] == 0] == -7).all())
            self.assertEqual(np.asarray(padded.flat(padded.input_ids)).tolist(),
                             np.asarray(batch.targets).tolist())

    def test_what_does_not_fit_is_refused_and_nothing_is_written(self) -> None:
        with self.open() as learner:
            updates = iter(learner)
            update = next(updates)
            values, _, _, _ = update.state()
            zeros = {name: np.zeros(value.shape, np.float32) for name, value in values.items()}
            good = dict(values)
            name = "model.norm.weight"
            nan = np.array(values[name])
            nan[3] = np.nan

            def refused(text: str, parameters=None, moments=None, **more: object) -> None:
                with self.assertRaises(vintage.UsageError) as raised:
                    update.commit(
                        good if parameters is None else parameters,
                        (zeros, zeros, 1) if moments is None else moments,
                        **{"grad_norm": 1.0, **more},
                    )
                self.assertIn(text, str(raised.exception))

            refused("was not weighed")
            for logprobs, text in [
                (np.zeros(3, np.float32), "has [" ),
                (np.full(len(update.batch.targets), 5.0, np.float32), "above 0"),
                (np.full(len(update.batch.targets), np.nan, np.float32), "valid token 0"),
            ]:
                with self.assertRaises(vintage.UsageError) as raised:
                    update.weigh(logprobs)
                self.assertIn(text, str(raised.exception))
            update.weigh(np.array(np.asarray(update.batch.logprobs)))
            refused("no parameter " + name, {k: v for k, v in good.items() if k != name})
            refused("none of that name", {**good, "other.weight": nan})
            refused("has shape [2]", {**good, name: np.zeros(2, np.float32)})
            refused("is no float32 array", {**good, name: nan.astype(np.float64) * 0})
            refused("a value of NaN at 3", {**good, name: nan})
            refused("steps of the optimizer", None, (zeros, zeros, 0))
            refused("mean of squares", None, (zeros, {**zeros, name: zeros[name] - 1}, 1))
            refused("grad_norm of inf", grad_norm=float("inf"))
            with self.assertRaises(vintage.UsageError) as raised:
                next(updates)
            self.assertIn("is not committed", str(raised.exception))
            self.assertFalse((self.run_folder / "results/lead/0.json").exists())
            self.assertEqual(os.listdir(self.run_folder / "weights/lead"), ["0"])
            commit(update)
            with self.assertRaises(vintage.UsageError) as raised:
                commit(update)
            self.assertIn("no update is open", str(raised.exception))
            later = next(learner.__iter__())
            self.assertEqual(later.number, 1)
            with self.assertRaises(vintage.UsageError) as raised:
                update.commit(good, (zeros, zeros, 1), grad_norm=1.0)
            self.assertIn("the open one is 1", str(raised.exception))

    def test_a_forked_process_is_refused(self) -> None:
        with self.open() as learner:
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    learner._native.next()
                    said = "no error"
                except RuntimeError as error:
                    said = str(error)
                os.write(write, said.encode())
                os._exit(0)
            os.close(write)
            said = os.read(read, 4096).decode()
            os.waitpid(child, 0)
            self.assertIn("forked", said)
            commit(next(iter(learner)))

    def test_an_interrupt_ends_a_wait_and_the_run_goes_on(self) -> None:
        # After the question of the start, the judge answers when the gate is opened: however late the
        # interrupt comes, no update is ready.
        gate = self.folder / "gate"
        os.mkfifo(gate)
        answer = r's/.*"id":"\([0-9]*\)".*/{"id":"\1","reward":1}/'
        first = f"read -r line; echo \"$line\" | sed '{answer}'"
        judge = ["sh", "-c", f"{first}; read -r _ <'{gate}'; sed -u '{answer}'"]
        learner = self.open(
            rollout__reward__command=judge,
            rollout__reward__timeout_seconds=600,
            learner__prompts_per_update=4096,
            learner__micro_batch_tokens=4096,
        )
        # Ignored in a process that a shell started in the background.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        interrupt = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
        interrupt.start()
        with self.assertRaises(KeyboardInterrupt):
            next(iter(learner))
        gate.write_text("open\n")
        learner.close()
        self.assertFalse((self.run_folder / "plans").exists())
        audited(self.run_folder)

    def test_an_update_left_open_is_run_first(self) -> None:
        with self.assertRaises(ZeroDivisionError), self.open() as learner:
            for update in learner:
                if update.number == 1:
                    raise ZeroDivisionError
                commit(update)
        plan = (self.run_folder / "plans/lead/1.json").read_bytes()
        with self.open() as learner:
            numbers = [(update.number, commit(update)["version"]) for update in learner]
        # No checkpoint was due before: update 0 is run again, and then the open one.
        self.assertEqual([number for number, _ in numbers], [0, 1, 2, 3])
        self.assertEqual((self.run_folder / "plans/lead/1.json").read_bytes(), plan)
        audited(self.run_folder)

    def test_settings_that_fit_nothing_are_refused_at_once(self) -> None:
        for more, text in [
            ({"learner__stepz": 3}, "learner.stepz"),
            ({"learner__lora__rank": 4}, "learner.lora.rank"),
            ({"learner__device": "cuda:0"}, "learner.device"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                self.open(**more)
            self.assertIn(text, str(raised.exception))
        self.assertFalse(self.run_folder.exists())
        with self.assertRaises(vintage.UsageError):
            vintage.Learner(self.run_folder, name="Not a name", settings={})


if __name__ == "__main__":
    unittest.main()
