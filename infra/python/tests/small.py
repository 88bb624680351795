"""A run so small that it takes seconds, for tests, and the built program beside it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve()
REPOSITORY = HERE.parents[3]

SETTINGS = {
    "learner.steps": 4,
    "warm_start.steps": 10,
    "rollout.max_tokens": 2,
    "rollout.group_size": 4,
    "learner.prompts_per_update": 4,
    "learner.checkpoint_every": 2,
    "evaluation.every": 0,
}


def program() -> str:
    """Path of the built program."""
    target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
    return os.environ.get("VINTAGE", str(pathlib.Path(target) / "release" / "vintage"))


def settings(folder: pathlib.Path, **more: object) -> dict[str, object]:
    """Settings of a small run on the prompts ``0=`` to ``9=``, whose answer is the digit."""
    prompts = folder / "digits.jsonl"
    if not prompts.exists():
        rows = [{"prompt": f"{digit}=", "answer": str(digit)} for digit in range(10)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = {name.replace("__", "."): value for name, value in more.items()}
    return {**SETTINGS, "prompts.train": str(prompts), **named}


def flags(chosen: dict[str, object]) -> list[str]:
    """The settings as flags of the program."""
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def vintage(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end."""
    command = [program(), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def ran(folder: pathlib.Path, **more: object) -> pathlib.Path:
    """Folder of a small run that has ended, inside ``folder``."""
    run = folder / "run"
    ended = vintage("run", "--out", run, *flags(settings(folder, **more)))
    assert ended.returncode == 0, ended.stderr
    return run


def audited(run: pathlib.Path, learner: str = "lead") -> dict[str, object]:
    """Account of a learner of a run, which must balance."""
    ended = vintage("audit", "--output", "json", run)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    account = json.loads(ended.stdout)
    assert account["holds"], account
    return account["learners"][learner]
