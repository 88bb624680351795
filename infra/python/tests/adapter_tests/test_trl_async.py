"""TRL's asynchronous trainer as the learner of a run: its updates, its resumption, its refusals."""

from __future__ import annotations

import json
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import unittest

import torch

import trl_on_cpu
import vintage
from small import audited, ran, settings
from vintage.trl import AsyncGRPOTrainer, Worker

SCRIPT = pathlib.Path(__file__).with_name("trl_me.py")
EXACT = ("tokens", "masked_tokens", "staleness", "groups", "rows", "equal_groups")
CLOSE = ("loss", "grad_norm", "entropy", "kl", "m2_before")
#: Rewards that differ within a group, and an archive long enough to be stale.
SMALL = {"algorithm": "grpo", "warm_start__steps": 120, "learner__optimizer__lr": 0.003}


class Training(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        torch.set_num_threads(1)
        trl_on_cpu.install()

    def train(self, run: pathlib.Path, name: str, **more: object) -> list[dict[str, object]]:
        """Trains the archive of a run as a follower, and returns the results of this learner."""
        chosen = {"learner.source": "archive", "learner.lineages": ["lead"]}
        with vintage.Learner(run, name=name, follow_plans="lead", settings=chosen) as learner:
            AsyncGRPOTrainer(learner, trl_on_cpu.arguments(**more)).train()
        files = sorted((run / "results" / name).glob("*.json"), key=lambda file: int(file.stem))
        return [json.loads(file.read_text()) for file in files]

    def test_its_updates_are_those_of_the_learner_in_rust(self) -> None:
        for rule in ("grpo", "none"):
            place = self.folder / rule
            place.mkdir()
            run = ran(place, **{**SMALL, "algorithm": rule})
            for pieces in (1, 3):
                name = f"trl-{pieces}"
                found = self.train(run, name, gradient_accumulation_steps=pieces)
                self.assertEqual(len(found), 4)
                losses = 0
                for number, mine in enumerate(found):
                    rust = json.loads((run / f"results/lead/{number}.json").read_text())
                    losses += rust["grad_norm"] > 0
                    for field in EXACT:
                        self.assertEqual(mine[field], rust[field], (rule, pieces, number, field))
                    for field in CLOSE:
                        within = 2e-5 + 1e-3 * abs(rust[field])
                        message = f"{rule} {pieces} {number} {field}"
                        self.assertAlmostEqual(mine[field], rust[field], delta=within, msg=message)
                self.assertGreater(losses, 2)
                audited(run, name)

    def test_a_stopped_one_goes_on_as_one_that_was_not(self) -> None:
        run = ran(self.folder, **SMALL)
        whole = self.train(run, "whole")
        self.assertEqual(len(self.train(run, "parts", max_steps=1)), 1)
        self.assertEqual(len(self.train(run, "parts", max_steps=2)), 3)
        parts = self.train(run, "parts")
        self.assertEqual(
            [result["weights_sha256"] for result in whole], [result["weights_sha256"] for result in parts]
        )

    def test_killed_at_any_stage_it_goes_on_and_no_rollout_is_lost(self) -> None:
        run = self.folder / "run"
        chosen = json.dumps(settings(self.folder, **SMALL))
        for words in (["planned", "0"], ["stepped", "1"], ["recorded", "2"], ["stepped", "3"], []):
            command = [sys.executable, str(SCRIPT), str(run), chosen, *words]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            wanted = -signal.SIGKILL if words else 0
            self.assertEqual(ended.returncode, wanted, (words, ended.stderr))
        summary = json.loads(ended.stdout.splitlines()[-1])
        self.assertTrue(summary["finished"] and summary["updates"] == 4, summary)
        self.assertEqual(audited(run)["trained"], 16)
        uses = vintage.uses(run)
        self.assertEqual(sorted(set(uses["update"].to_pylist())), [0, 1, 2, 3])

    def test_what_does_not_fit_is_refused(self) -> None:
        with vintage.Learner(self.folder / "m2po", settings=settings(self.folder)) as learner:
            with self.assertRaises(vintage.UsageError) as raised:
                AsyncGRPOTrainer(learner, trl_on_cpu.arguments())
            self.assertIn("the run's rule is m2po", str(raised.exception))
        run = self.folder / "grpo"
        with vintage.Learner(run, settings=settings(self.folder, algorithm="grpo")) as learner:
            trainer = AsyncGRPOTrainer(learner, trl_on_cpu.arguments(gradient_accumulation_steps=17))
            with self.assertRaises(vintage.UsageError) as raised:
                trainer.train(resume_from_checkpoint="somewhere")
            self.assertIn("the run's own checkpoint", str(raised.exception))
            with self.assertRaises(vintage.UsageError) as raised:
                trainer.train()
            self.assertIn("has 16 rows, and gradient_accumulation_steps is 17", str(raised.exception))
        with vintage.Learner(run, settings=settings(self.folder, algorithm="grpo")) as learner:
            worker = Worker(learner)
            rows = [worker.get() for _ in range(worker.rows_left())]
            self.assertEqual(len(rows), 16)
            self.assertRaises(queue.Empty, worker.get, 0.1)
            self.assertRaises(vintage.UsageError, worker.check_health, 1.0)
            self.assertEqual({int(row.completion_mask.sum()) for row in rows} - {1, 2}, set())
        with vintage.Learner(run, settings=settings(self.folder, algorithm="grpo")) as learner:
            trainer = AsyncGRPOTrainer(learner, trl_on_cpu.arguments())
            trainer.worker.scored = lambda places, logprobs, entropy, found: Worker.scored(
                trainer.worker, places, logprobs, entropy, found + 1.0
            )
            with self.assertRaises(vintage.UsageError) as raised:
                trainer.train()
            self.assertIn("and the run's rule gives", str(raised.exception))
            with self.assertRaises(vintage.UsageError) as raised:
                trainer.train()
            self.assertIn("was begun and not recorded", str(raised.exception))
        self.assertFalse(list((run / "results").rglob("*.json")))
        with vintage.Learner(run, settings=settings(self.folder, algorithm="grpo")) as learner:
            AsyncGRPOTrainer(learner, trl_on_cpu.arguments()).train()
        with vintage.Learner(run, settings=settings(self.folder, algorithm="grpo")) as learner:
            with self.assertRaises(vintage.UsageError) as raised:
                AsyncGRPOTrainer(learner, trl_on_cpu.arguments())
            self.assertIn("has finished", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
