"""A PyTorch learner trains a run, is resumed, and gives what the learner in Rust gives."""

from __future__ import annotations

import json
import pathlib
import tempfile
import unittest

import torch
from torch import nn

import vintage
from small import audited, flags, settings, vintage as program
from vintage.torch import Decoder, adamw, score

#: Fields of a result that PyTorch must give exactly as Rust, and those that are rounded otherwise.
#: Which side of 1 a ratio is on is rounding, where a version trains on what it sampled itself.
EXACT = (
    "tokens",
    "masked_tokens",
    "clamped_tokens",
    "staleness",
    "groups",
    "rows",
    "equal_groups",
)
CLOSE = ("loss", "grad_norm", "entropy", "kl", "m2_before", "m2_after", "clip_fraction")


class Training(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)
        self.run_folder = self.folder / "run"

    def open(self, run: pathlib.Path | None = None, **more: object) -> vintage.Learner:
        learner = vintage.Learner(run or self.run_folder, settings=settings(self.folder, **more))
        self.addCleanup(learner.close)
        return learner

    def test_updates_are_those_of_the_learner_in_rust(self) -> None:
        """An archive trained by both: the same batches give the same losses, masks and norms."""
        for budget in (4096, 24):
            run = self.folder / f"run-{budget}"
            chosen = settings(self.folder, learner__micro_batch_tokens=budget)
            ended = program("run", "--out", run, *flags(chosen))
            self.assertEqual(ended.returncode, 0, ended.stderr)
            learner = vintage.Learner(
                run,
                name="b",
                follow_plans="lead",
                settings={"learner.source": "archive", "learner.lineages": ["lead"]},
            )
            self.addCleanup(learner.close)
            learner.attach(learner.build_model())
            found = []
            for update in learner:
                self.assertEqual(len(update.micro_batches) > 1, budget == 24)
                update.train()
                found.append(update.commit())
            self.assertEqual(len(found), 4)
            for number, mine in enumerate(found):
                rust = json.loads((run / f"results/lead/{number}.json").read_text())
                for field in EXACT:
                    self.assertEqual(mine[field], rust[field], (budget, number, field))
                for field in CLOSE:
                    within = 2e-5 + 1e-3 * abs(rust[field])
                    message = f"{budget} {number} {field}"
                    self.assertAlmostEqual(mine[field], rust[field], delta=within, msg=message)

    def test_a_stopped_learner_goes_on_as_one_that_was_not(self) -> None:
        """Moments and weights come back from the checkpoint: a replayed archive gives equal bits."""
        ended = program("run", "--out", self.run_folder, *flags(settings(self.folder)))
        self.assertEqual(ended.returncode, 0, ended.stderr)

        def train(name: str, stops: tuple[int, ...]) -> list[str]:
            digests: list[str] = []
            done = False
            while not done:
                learner = vintage.Learner(
                    self.run_folder,
                    name=name,
                    settings={"learner.source": "archive", "learner.lineages": ["lead"]},
                )
                with learner:
                    learner.attach(learner.build_model())
                    for update in learner:
                        update.train()
                        digests.append(update.commit()["weights_sha256"])
                        if update.number in stops and len(digests) == update.number + 1:
                            break
                    else:
                        done = True
            return digests

        self.assertEqual(train("whole", ()), train("parts", (0, 2)))

    def test_a_learner_in_rust_goes_on_from_the_checkpoint(self) -> None:
        with self.open() as learner:
            learner.attach(learner.build_model())
            for update in learner:
                update.train()
                update.commit()
                if update.number == 1:
                    break
        ended = program("run", "--out", self.run_folder, "--output", "json")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        summary = json.loads(ended.stdout)
        self.assertTrue(summary["finished"] and summary["updates"] == 4, summary)
        devices = [
            json.loads((self.run_folder / f"plans/lead/{n}.json").read_text())["fingerprint"]["device"]
            for n in range(4)
        ]
        self.assertEqual(devices, ["torch", "torch", "cpu", "cpu"])
        audited(self.run_folder)

    def test_steps_by_hand_are_those_of_train(self) -> None:
        with self.open() as learner:
            model = learner.build_model()
            learner.attach(model)
            for update in learner:
                scored = [score(model, piece) for piece in update.micro_batches]
                weighed = update.weigh([a for a, _ in scored], entropy=[b for _, b in scored])
                weighed.loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                learner.optimizer.step()
                learner.optimizer.zero_grad()
                result = update.commit(model.state_dict(), learner.optimizer, grad_norm=float(norm))
                self.assertGreater(result["entropy"], 0)
                self.assertEqual(result["loss"], weighed.value)
        self.assertEqual(audited(self.run_folder)["trained"], 16)

    def test_models_and_optimizers_that_do_not_fit_are_refused(self) -> None:
        with self.open() as learner:
            config = dict(learner.model_config)
            learner.attach(Decoder({**config, "hidden_size": 32}))
            with self.assertRaises(vintage.UsageError) as raised:
                next(iter(learner))
            self.assertIn("the run's model", str(raised.exception))
        with self.open() as learner:
            model = learner.build_model()
            learner.attach(model)
            update = next(iter(learner))
            update.train()
            for optimizer, text in [
                (torch.optim.SGD(model.parameters(), lr=0.1), "SGD"),
                (torch.optim.AdamW(model.parameters(), lr=0.1), "has lr 0.1"),
                (adamw(model, update.optimizer_settings), "steps of the optimizer"),
            ]:
                with self.assertRaises(vintage.UsageError) as raised:
                    update.commit(model, optimizer)
                self.assertIn(text, str(raised.exception))
            learner.optimizer.param_groups[0]["lr"] *= 2
            with self.assertRaises(vintage.UsageError) as raised:
                update.commit()
            self.assertIn("has lr", str(raised.exception))
            learner.optimizer.param_groups[0]["lr"] /= 2
            with torch.no_grad():
                model.model.norm.weight[3] = float("nan")
            with self.assertRaises(vintage.UsageError) as raised:
                update.commit()
            self.assertIn("model.norm.weight", str(raised.exception))
            with torch.no_grad():
                model.model.norm.weight[3] = 1.0
            self.assertEqual(update.commit()["version"], 0)

    def test_a_wrapped_model_keeps_its_names(self) -> None:
        with self.open(learner__steps=1) as learner:
            model = learner.build_model()

            class Wrapper(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.module = model

                def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
                    return self.module(**inputs)

            learner.attach(Wrapper())
            for update in learner:
                update.train()
                update.commit()
        assert learner.summary is not None
        self.assertTrue(learner.summary["finished"])


if __name__ == "__main__":
    unittest.main()
