"""Recorded rollouts through verl: its data set, agent loop worker, TransferQueue, replay buffer and advantages."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import tempfile
import unittest
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
import transfer_queue as tq
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast
from verl.trainer.ppo.utils import create_rl_dataset
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

import vintage
from small import ran
from vintage.verl import RecordedLoop

GROUPS = 4


class Recording(unittest.TestCase):
    place: tempfile.TemporaryDirectory
    run_folder: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        torch.set_num_threads(1)
        cls.place = tempfile.TemporaryDirectory()
        cls.run_folder = ran(pathlib.Path(cls.place.name), warm_start__steps=120)
        cls.model = pathlib.Path(cls.place.name) / "model"
        shutil.copytree(cls.run_folder / "weights/lead/0", cls.model)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(cls.model / "tokenizer.json"), eos_token="<eos>", pad_token="<eos>"
        )
        tokenizer.save_pretrained(cls.model)
        # Logical cores: the controller, two storage units and the agent loop take one each.
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
        tq.init()

    @classmethod
    def tearDownClass(cls) -> None:
        tq.close()
        ray.shutdown()
        cls.place.cleanup()

    def config(self, **more: object) -> Any:
        loops = pathlib.Path(self.place.name) / "recorded.yaml"
        loops.write_text("- name: vintage\n  _target_: vintage.verl.RecordedLoop\n")
        given = {
            "data.train_files": f"[{self.run_folder}]",
            "data.custom_cls.path": "pkg://vintage.verl",
            "data.custom_cls.name": "RecordedGroups",
            "data.train_batch_size": GROUPS,
            "algorithm.adv_estimator": "grpo",
            "actor_rollout_ref.model.path": self.model,
            "actor_rollout_ref.rollout.name": "vllm",
            "actor_rollout_ref.rollout.n": 4,
            "actor_rollout_ref.rollout.calculate_log_probs": True,
            "actor_rollout_ref.rollout.agent.agent_loop_config_path": loops,
            "algorithm.rollout_correction.bypass_mode": True,
            **more,
        }
        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose("ppo_trainer", overrides=[f"{key}={value}" for key, value in given.items()])

    def test_verl_trains_on_what_the_log_holds(self) -> None:
        config = self.config()
        dataset = create_rl_dataset(config.data.train_files, config.data, None, None)
        rows = [dataset[index] for index in range(GROUPS)]
        prompts = collate_fn(rows)
        uids = [f"prompt{index}" for index in range(GROUPS)]
        prompts["uid"] = np.array(uids, dtype=object)
        sent = tu.get_tensordict(prompts)
        tu.assign_non_tensor_data(sent, "global_steps", 1)
        tags = [{"is_prompt": True, "status": "pending", "global_steps": 1}] * GROUPS
        tq.kv_batch_put(keys=uids, partition_id="train", tags=tags)
        worker = AgentLoopWorkerTQ.options(num_cpus=1).remote(config, None)
        ray.get(worker.generate_sequences.remote(sent))
        logged = {
            (row["group_id"].hex(), row["sample_index"]): row
            for batch in vintage.read(self.run_folder)
            for row in pa.Table.from_batches([batch]).to_pylist()
        }
        empty = OmegaConf.create({})
        buffer = ReplayBuffer(
            "sync", empty, 8, "drop", empty, poll_interval=0.1, train_batch_size=GROUPS, gen_batch_size=GROUPS
        )
        batch, _ = buffer.sample(1, "train", GROUPS)  # waits for the worker
        self.assertEqual(len(batch.keys), 4 * GROUPS)
        trainer = SimpleNamespace(config=config)
        batch = PPOTrainer._compute_old_log_prob(trainer, batch, {})
        PPOTrainer._compute_advantage(trainer, batch, {})
        data = tq.kv_batch_get(keys=batch.keys, partition_id="train")
        spread = 0.0
        for place, key in enumerate(batch.keys):
            uid, session, _ = key.split("_")
            group = rows[int(uid.removeprefix("prompt"))]["recorded_group"]
            row = logged[group, int(session)]
            self.assertEqual(data["prompts"][place].tolist(), row["prompt_tokens"])
            self.assertEqual(data["responses"][place].tolist(), row["completion_tokens"])
            self.assertEqual(data["rollout_log_probs"][place].tolist(), row["behavior_logprobs"])
            self.assertEqual(data["old_log_probs"][place].tolist(), row["behavior_logprobs"])
            self.assertEqual(float(data["rm_scores"][place].sum()), row["reward"])
            self.assertEqual(batch.tags[place]["min_global_steps"], row["policy_spans"][0]["version"])
            rewards = torch.tensor([logged[group, sample]["reward"] for sample in range(4)])
            wanted = (row["reward"] - rewards.mean()) / (rewards.std() + 1e-6)
            self.assertAlmostEqual(float(data["advantages"][place][0]), float(wanted), places=4)
            spread += abs(float(wanted))
        self.assertGreater(spread, 0)

    def test_what_does_not_fit_is_refused(self) -> None:
        for more, text in [
            ({"n": 3}, "has 4 rollouts, and rollout.n is 3"),
            ({"temperature": 0.5}, "was sampled at a temperature of 1.0, and verl's is 0.5"),
            ({"response_length": 1}, "has 2 tokens, and rollout.response_length is 1"),
        ]:
            config = self.config(**{f"actor_rollout_ref.rollout.{key}": value for key, value in more.items()})
            dataset = create_rl_dataset(config.data.train_files, config.data, None, None, max_samples=2)
            self.assertEqual(len(dataset), 2)
            loop = RecordedLoop.__new__(RecordedLoop)  # verl's own attributes are not looked at before
            loop.rollout_config = config.actor_rollout_ref.rollout
            sampling = {"temperature": config.actor_rollout_ref.rollout.temperature}
            with self.assertRaises(vintage.UsageError) as raised:
                for sample in range(4):
                    asyncio.run(loop.run(sampling, session_id=sample, **dataset[0]))
            self.assertIn(text, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
