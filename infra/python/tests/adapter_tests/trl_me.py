"""A learner with TRL's trainer in a process of its own, for the tests that kill it.

usage: trl_me.py RUN SETTINGS [STAGE UPDATE]; SETTINGS is JSON. Kills itself at STAGE of UPDATE:
``planned`` (no gradient yet), ``stepped`` (the optimizer's step was taken, nothing is recorded) or
``recorded``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import torch
from trl.experimental.async_grpo import AsyncGRPOConfig

import trl_on_cpu
import vintage
from vintage.trl import AsyncGRPOTrainer


def main() -> None:
    run, settings = sys.argv[1], json.loads(sys.argv[2])
    stage, update = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("", -1)
    torch.set_num_threads(1)
    trl_on_cpu.install()
    with vintage.Learner(run, settings=settings) as learner:
        trainer = AsyncGRPOTrainer(learner, trl_on_cpu.arguments())
        worker = trainer.worker
        send, loss = worker.send_weights, trainer.compute_loss

        def reached(place: str) -> None:
            if stage == place and worker.update is not None and worker.update.number == update:
                os.kill(os.getpid(), signal.SIGKILL)

        def compute(*given: Any, **named: Any) -> Any:
            reached("planned")
            return loss(*given, **named)

        def sent(iterator: Any) -> None:
            if worker._norm is not None:
                reached("stepped")
            number = None if worker.update is None else worker.update.number
            send(iterator)
            if stage == "recorded" and number == update and worker.update is None:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.compute_loss, worker.send_weights = compute, sent
        trainer.train()
    print(json.dumps(learner.summary))


if __name__ == "__main__":
    main()
