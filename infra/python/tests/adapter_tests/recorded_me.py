"""One of the ranks that train on recorded rollouts with TRL, for the test of several processes.

usage: recorded_me.py RUN MODEL OUT; writes which rollouts this rank was given into ``OUT/<rank>.json``.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

import torch
from trl import GRPOConfig

from vintage.trl import GRPOTrainer, Recorded


class Watched(Recorded):
    """Rollouts that are written down as they are given."""

    seen: list[tuple[str, list[int], list[int]]] = []

    def __call__(self, prompts: Any, trainer: Any) -> Any:
        found = super().__call__(prompts, trainer)
        self.seen += zip(prompts, found["prompt_ids"], found["completion_ids"])
        return found


def main() -> None:
    run, model, out = sys.argv[1:4]
    torch.set_num_threads(1)
    recorded = Watched(run)
    args = GRPOConfig(
        output_dir=out,
        use_cpu=True,
        bf16=False,
        num_generations=4,
        per_device_train_batch_size=2,  # a group is shared by two ranks
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    GRPOTrainer(model, recorded, args=args).train()
    pathlib.Path(out, f"{os.environ['RANK']}.json").write_text(json.dumps(recorded.seen))


if __name__ == "__main__":
    main()
