"""A PyTorch learner of a run in a process of its own, for the tests that kill it.

usage: kill_me.py RUN [NAME [LEADER]]; settings as JSON in VINTAGE_TEST_SETTINGS. Prints one line for
every step of an update.
"""

from __future__ import annotations

import json
import os
import sys

import torch

import vintage


def say(*words: object) -> None:
    print(*words, flush=True)


def main() -> None:
    torch.set_num_threads(1)
    run = sys.argv[1]
    name = sys.argv[2] if len(sys.argv) > 2 else None
    leader = sys.argv[3] if len(sys.argv) > 3 else None
    settings = json.loads(os.environ["VINTAGE_TEST_SETTINGS"])
    say("opening")
    with vintage.Learner(run, name=name, follow_plans=leader, settings=settings) as learner:
        learner.attach(learner.build_model())
        say("opened")
        for update in learner:
            say("handed", update.number)
            update.train()
            say("trained", update.number)
            result = update.commit()
            say("committed", update.number, result["weights_sha256"])
    say("closed", json.dumps(learner.summary))


if __name__ == "__main__":
    main()
