"""Trains a model on the rollouts of a run with the Trainer of Hugging Face; nothing is sampled.

usage: trainer.py RUN OUT [STEPS]

RUN is the folder of a run that has archived rollouts, OUT gets checkpoints and the model. Started again,
it goes on from the newest checkpoint. The loss is M2PO over the log-probs of the policies that sampled.
Needs: pip install 'vintage[torch,datasets]' transformers accelerate
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import vintage
from vintage.torch import token_logprobs, weigh

COLUMNS = ["group_id", "prompt_tokens", "completion_tokens", "behavior_logprobs", "loss_mask", "reward"]


def rollouts(run: str) -> Any:
    """Archived rollouts with their advantages: the reward above the mean of the group."""
    found = vintage.to_dataset(run, columns=[*COLUMNS, "temperature"])
    groups = found.to_pandas().groupby("group_id")["reward"]
    return found.add_column("advantage", (groups.transform(lambda own: own - own.mean())).tolist())


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows as rectangles ``[R, L]``, padded on the right; only completions have a mask."""
    wide: dict[str, list[torch.Tensor]] = {
        name: [] for name in ("input_ids", "attention_mask", "mask", "behavior", "advantages", "temperature")
    }
    for row in rows:
        prompt, completion = len(row["prompt_tokens"]), len(row["completion_tokens"])
        ones = torch.ones(prompt + completion)
        trained = [0] * prompt + [int(own) for own in row["loss_mask"] or [True] * completion]
        wide["input_ids"].append(torch.tensor(row["prompt_tokens"] + row["completion_tokens"]))
        wide["attention_mask"].append(ones.long())
        wide["mask"].append(torch.tensor(trained, dtype=torch.bool))
        wide["behavior"].append(torch.tensor([0.0] * prompt + row["behavior_logprobs"]))
        wide["advantages"].append(ones * row["advantage"])
        wide["temperature"].append(ones * row["temperature"])
    padded = torch.nn.utils.rnn.pad_sequence
    return {name: padded(values, batch_first=True) for name, values in wide.items()}


class Learner(Trainer):
    """A Trainer whose loss is the rule of the log."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        mask = inputs["mask"][:, 1:]  # the output at a token predicts the next
        logprobs, _ = token_logprobs(
            output.logits[:, :-1][mask], inputs["input_ids"][:, 1:][mask], inputs["temperature"][:, 1:][mask]
        )
        behavior, advantages = inputs["behavior"][:, 1:][mask], inputs["advantages"][:, 1:][mask]
        weighed = weigh(logprobs, behavior, advantages, torch.ones_like(behavior, dtype=torch.bool))
        return (weighed.loss, output) if return_outputs else weighed.loss


def main() -> None:
    run, out = sys.argv[1:3]
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    torch.manual_seed(0)
    arguments = TrainingArguments(
        out,
        max_steps=steps,
        save_steps=10,
        logging_steps=1,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
    learner = Learner(
        model=AutoModelForCausalLM.from_pretrained(f"{run}/weights/lead/0"),
        args=arguments,
        train_dataset=rollouts(run),
        data_collator=collate,
    )
    learner.train(resume_from_checkpoint=get_last_checkpoint(out))
    learner.save_model(out)


if __name__ == "__main__":
    main()
