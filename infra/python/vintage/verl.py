"""Recorded rollouts in verl's PPO trainer: a data set of groups, and an agent loop that gives them.

verl's trainer (V1, over TransferQueue) reads prompts from a data set and has each sampled by an agent
loop. Here a row is a group of an archive, and the loop returns what was recorded for it: ids, log-probs
of the policy that sampled, mask and reward. Nothing is sampled; everything after that is verl's.
Written for verl 0.9. In verl's configuration::

    data.train_files=[runs/a]
    data.custom_cls.path=pkg://vintage.verl
    data.custom_cls.name=RecordedGroups
    actor_rollout_ref.rollout.n=8
    actor_rollout_ref.rollout.calculate_log_probs=True
    actor_rollout_ref.rollout.agent.agent_loop_config_path=recorded.yaml

and in ``recorded.yaml``::

    - name: vintage
      _target_: vintage.verl.RecordedLoop
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from ._native import UsageError
from .rollouts import Rollouts

#: Name of the agent loop that rows ask for, as ``agent_loop_config_path`` defines it.
AGENT = "vintage"


class RecordedGroups(Dataset[dict[str, Any]]):
    """Data set of verl: one row for each group, in the order of the log.

    ``data_files`` are folders of runs or archives, or buckets, as :func:`vintage.read` takes them. verl
    makes the object, shuffles it, and keeps the position in its checkpoints. A row names its group
    and the agent loop; ``raw_prompt`` is the prompt's text, for verl's logs.
    """

    def __init__(
        self,
        data_files: str | Sequence[str],
        tokenizer: Any = None,
        processor: Any = None,
        config: Any = None,
        max_samples: int = -1,
        **more: Any,
    ) -> None:
        given = [data_files] if isinstance(data_files, str) else list(data_files)
        self._rows = [(source, group) for source in given for group in _recorded(source).rows]
        if max_samples > 0:
            self._rows = self._rows[:max_samples]

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, group = self._rows[index]
        recorded = _recorded(source)
        item = recorded.rollouts[recorded.rows[group][0]]
        return {
            "raw_prompt": [{"role": "user", "content": item["prompt_text"] or item["prompt_id"]}],
            "index": index,
            "agent_name": AGENT,
            "data_source": "vintage",
            "reward_model": {"style": "recorded", "ground_truth": ""},
            "extra_info": {"index": index, "prompt_id": item["prompt_id"]},
            "recorded_source": source,
            "recorded_group": group,
        }


class RecordedLoop(AgentLoopBase):
    """Agent loop of verl that returns a recorded rollout: session ``k`` is sample ``k`` of the group.

    The reward is that of the log, and verl computes none. ``min_global_steps`` and
    ``max_global_steps`` are the run's oldest and newest version that sampled.

    Raises :class:`UsageError` if ``rollout.n`` is not the size of the group, if the rollout is longer
    than ``rollout.response_length``, or if it was sampled at another temperature.
    """

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        """Rollout ``session_id`` of the row's group."""
        group, sample = str(kwargs["recorded_group"]), int(kwargs["session_id"])
        recorded = _recorded(str(kwargs["recorded_source"]))
        first, end = recorded.rows[group]
        wanted = int(self.rollout_config.n)
        if end - first != wanted:
            raise UsageError(
                f"group {group} has {end - first} rollouts, and rollout.n is {wanted}: they must be as many"
            )
        item = recorded.rollouts[first + sample]
        start, longest = len(item["prompt_tokens"]), int(self.rollout_config.response_length)
        if len(item["input_ids"]) - start > longest:
            raise UsageError(
                f"sample {sample} of group {group} has {len(item['input_ids']) - start} tokens, and "
                f"rollout.response_length is {longest}"
            )
        temperature = float(sampling_params["temperature"])
        if abs(item["temperature"] - temperature) > 1e-6:
            raise UsageError(
                f"group {group} was sampled at a temperature of {item['temperature']}, and verl's is "
                f"{temperature}: the log-probs are not comparable"
            )
        versions = item["versions"][item["loss_mask"]].tolist() or [0]
        return AgentLoopOutput(
            prompt_ids=item["input_ids"][:start].tolist(),
            response_ids=item["input_ids"][start:].tolist(),
            response_mask=item["loss_mask"][start:].astype(int).tolist(),
            response_logprobs=item["logprobs"][start:].tolist(),
            multi_modal_data={},
            reward_score=float(item["reward"]),
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={
                "turn_scores": [],
                "tool_rewards": [],
                "reward_extra_info": {},
                "min_global_steps": min(versions),
                "max_global_steps": max(versions),
            },
        )


class _Recorded:
    """Rollouts of a source, and where those of each group are."""

    def __init__(self, source: str) -> None:
        columns = ("prompt_tokens", "prompt_text", "temperature")
        self.rollouts = Rollouts(source, columns=columns, shuffle=False)
        ends = [int(end) for end in self.rollouts._ends]
        self.rows = dict(zip(self.rollouts.groups, zip([0, *ends], ends)))


@functools.lru_cache(maxsize=64)
def _opened(source: str, process: int) -> _Recorded:
    return _Recorded(source)


def _recorded(source: str) -> _Recorded:
    """Rollouts of a source, read once a process: verl makes an agent loop for each rollout."""
    return _opened(source, os.getpid())
