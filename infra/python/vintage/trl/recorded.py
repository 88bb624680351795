"""TRL's GRPO trainer on recorded rollouts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from trl.trainer.grpo_trainer import GRPOTrainer as _GRPOTrainer

from .._native import UsageError
from ..rollouts import Rollouts
from .tokenizer import load_tokenizer


class Recorded:
    """Archived groups in the place of TRL's sampling: a ``rollout_func`` with its data set and reward.

    ``source``, ``where`` and ``topic`` are those of :func:`vintage.read`. ``dataset`` has one row for
    each group; called with rows of it, as :class:`GRPOTrainer` does, the object gives the rollouts that
    were recorded: prompt and completion as ids, log-probs under the policy that sampled them, and the
    reward, which ``reward`` hands to TRL. What is given depends on the row alone, so that a trainer
    that resumes from its checkpoint goes on with the groups it has not had.

    Raises :class:`UsageError` as :func:`vintage.read` does.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        where: Mapping[str, Any] | None = None,
        topic: str | None = None,
    ) -> None:
        columns = ("prompt_tokens", "temperature")
        self._rollouts = Rollouts(source, where=where, topic=topic, columns=columns, shuffle=False)
        ends = [int(end) for end in self._rollouts._ends]
        self._places = dict(zip(self._rollouts.groups, zip([0, *ends], ends)))
        self.dataset = datasets.Dataset.from_dict({"prompt": list(self._places)})

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Rollouts of rows of ``dataset``, each repeated ``num_generations`` times, as TRL does."""
        samples = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        first = trainer.accelerator.process_index * len(prompts)  # processes share a batch in order
        rows = [self._row(group, (first + k) % samples, samples) for k, group in enumerate(prompts)]
        temperature = float(trainer.args.temperature)
        for group, row in zip(prompts, rows):
            if not np.isclose(row["temperature"], temperature):
                raise UsageError(
                    f"group {group} was sampled at a temperature of {row['temperature']}, and TRL's is "
                    f"{temperature}: the log-probs are not comparable"
                )
        found: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "env_mask": []}
        for row in rows:
            start = len(row["prompt_tokens"])
            found["prompt_ids"].append(row["input_ids"][:start].tolist())
            found["completion_ids"].append(row["input_ids"][start:].tolist())
            found["logprobs"].append(row["logprobs"][start:].tolist())
            found["env_mask"].append(row["loss_mask"][start:].astype(int).tolist())
        return {**found, "recorded_reward": [row["reward"] for row in rows]}

    @staticmethod
    def reward(*, recorded_reward: Sequence[float], **more: Any) -> list[float]:
        """Reward function of TRL: the rewards of the log."""
        return list(recorded_reward)

    def _row(self, group: str, sample: int, samples: int) -> dict[str, Any]:
        if group not in self._places:
            raise UsageError(f"{group!r} is no group of the archive: train on the dataset of the Recorded")
        first, end = self._places[group]
        if end - first != samples:
            raise UsageError(
                f"group {group} has {end - first} rollouts, and num_generations is {samples}: they must "
                "be as many"
            )
        return self._rollouts[first + sample]


class GRPOTrainer(_GRPOTrainer):
    """TRL's GRPO trainer on recorded rollouts, which samples nothing.

    ``recorded`` gives rollouts and rewards; other arguments are TRL's, ``reward_funcs`` besides
    (by default the recorded rewards alone). TRL normalizes advantages and chooses the loss. Its ratio
    is that of the policy to the one that sampled, by the log-probs of the log: TRL alone would take
    the rollouts for the policy's own.
    """

    def __init__(self, model: Any, recorded: Recorded, reward_funcs: Any = None, **more: Any) -> None:
        if "processing_class" not in more and isinstance(model, str) and os.path.isdir(model):
            more["processing_class"] = load_tokenizer(model)
        rewards: Any = recorded.reward if reward_funcs is None else reward_funcs
        super().__init__(
            model,
            reward_funcs=rewards,
            train_dataset=recorded.dataset,
            rollout_func=recorded,
            **more,
        )

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        base: Any = super()
        output = base._generate_and_score_completions(inputs)
        output["old_per_token_logps"] = output["sampling_per_token_logps"]
        return output
