"""TRL's GRPO trainer on recorded rollouts: what it gets, what its ratio is, and where it goes on."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
from typing import Any

import pyarrow as pa
import torch
from trl import GRPOConfig

import vintage
from small import ran
from vintage.trl import GRPOTrainer, Recorded


class Recording(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    run_folder: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        torch.set_num_threads(1)
        cls.place = tempfile.TemporaryDirectory()
        cls.run_folder = ran(pathlib.Path(cls.place.name), warm_start__steps=120, learner__optimizer__lr=0.003)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.place.cleanup()

    def trainer(self, recorded: Recorded, version: int = 0, **more: Any) -> GRPOTrainer:
        first = self.run_folder / "weights/lead/0"
        model = pathlib.Path(self.place.name) / f"model-{version}"
        shutil.copytree(first, model, dirs_exist_ok=True)
        shutil.copy(first.parent / str(version) / "model.safetensors", model)
        given = {
            "output_dir": f"{self.place.name}/trl",
            "use_cpu": True,
            "bf16": False,
            "num_generations": 4,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "logging_steps": 1,
            **more,
        }
        return GRPOTrainer(str(model), recorded, args=GRPOConfig(**given))

    def test_it_trains_what_the_log_holds_each_group_once_and_resumes(self) -> None:
        rows = pa.Table.from_batches(list(vintage.read(self.run_folder))).to_pylist()
        logged = {(row["group_id"].hex(), row["sample_index"]): row for row in rows}
        seen: list[tuple[str, int]] = []

        class Watched(Recorded):
            def __call__(self, prompts: Any, trainer: Any) -> Any:
                found = super().__call__(prompts, trainer)
                for place, group in enumerate(prompts):
                    row = logged[group, place % 4]
                    seen.append((group, place % 4))
                    assert found["prompt_ids"][place] == row["prompt_tokens"]
                    assert found["completion_ids"][place] == row["completion_tokens"]
                    assert found["logprobs"][place] == row["behavior_logprobs"]
                    assert found["recorded_reward"][place] == row["reward"]
                return found

        trainer = self.trainer(Watched(self.run_folder), num_train_epochs=1, save_strategy="steps", save_steps=3)
        trainer.train()
        self.assertEqual(sorted(seen), sorted(logged))
        losses = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
        self.assertTrue(any(norm > 0 for norm in losses), trainer.state.log_history)
        whole, seen[:] = list(seen), []
        checkpoint = f"{self.place.name}/trl/checkpoint-3"
        again = self.trainer(Watched(self.run_folder), num_train_epochs=1)
        again.train(resume_from_checkpoint=checkpoint)
        self.assertEqual(seen, whole[3 * 8 :])
        for one, other in zip(trainer.model.parameters(), again.model.parameters()):
            torch.testing.assert_close(one, other)

    def test_the_ratio_is_to_the_policy_that_sampled(self) -> None:
        trainer = self.trainer(Recorded(self.run_folder), version=4, max_steps=1, learning_rate=0.0)
        found: list[Any] = []
        loss = trainer._compute_loss

        def kept(model: Any, inputs: Any) -> Any:
            found.append(inputs)
            return loss(model, inputs)

        trainer._compute_loss = kept
        trainer.train()
        self.assertEqual(len(found), 2)
        for inputs in found:
            old, mask = inputs["old_per_token_logps"], inputs["completion_mask"].bool()
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            with torch.no_grad():
                logits = trainer.model(input_ids=ids, attention_mask=attention).logits[:, :-1]
            own = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).squeeze(-1)[:, -old.shape[1] :]
            self.assertGreater(float((own - old)[mask].abs().max()), 1e-4)
            torch.testing.assert_close(old[mask], inputs["sampling_per_token_logps"][mask])

    def test_two_ranks_share_groups_and_miss_no_rollout(self) -> None:
        rows = pa.Table.from_batches(list(vintage.read(self.run_folder))).to_pylist()
        out = pathlib.Path(self.place.name) / "ranks"
        out.mkdir()
        script = pathlib.Path(__file__).with_name("recorded_me.py")
        model = self.run_folder / "weights/lead/0"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = []
        for rank in range(2):
            world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            world |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": 1}
            environment = {**os.environ, **{name: str(value) for name, value in world.items()}}
            command = [sys.executable, str(script), str(self.run_folder), str(model), str(out)]
            ranks.append(
                subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
                )
            )
        for process in ranks:
            self.addCleanup(process.kill)
        for process in ranks:
            _, stderr = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0, stderr)
        found = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
        self.assertEqual(len(found[0]), len(found[1]))
        given = [(group, prompt, completion) for rank in found for group, prompt, completion in rank]
        wanted = [(row["group_id"].hex(), row["prompt_tokens"], row["completion_tokens"]) for row in rows]
        self.assertEqual(sorted(given), sorted(wanted))

    def test_what_does_not_fit_is_refused(self) -> None:
        recorded = Recorded(self.run_folder)
        for more, text in [
            ({"temperature": 0.7}, "was sampled at a temperature of 1.0, and TRL's is 0.7"),
            ({"num_generations": 2}, "has 4 rollouts, and num_generations is 2"),
        ]:
            with self.assertRaises(vintage.UsageError) as raised:
                self.trainer(recorded, max_steps=1, **more).train()
            self.assertIn(text, str(raised.exception))
        trainer = self.trainer(recorded, max_steps=1)
        with self.assertRaises(vintage.UsageError) as raised:
            recorded(["0="] * 4, trainer)
        self.assertIn("is no group of the archive", str(raised.exception))


if __name__ == "__main__":
    unittest.main()
