"""The log: a broker of Apache Kafka on this machine, a learner that grants slots, and this package."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
from rollouts import LONG, PROMPT, SAMPLES, Group
from safetensors.numpy import save_file

import vintage

#: Ids of the model that is only there to be named: no rollout is sampled from it.
VOCABULARY = 32_768
#: What a consumer reads: ids, log-probs and versions.
COLUMNS = ["group_id", "prompt_tokens", "completion_tokens", "behavior_logprobs", "policy_spans"]


def program() -> str:
    """Path of the built program."""
    return os.environ.get("VINTAGE", "target/release/vintage")


def call(*words: object) -> str:
    """Runs the program to its end; its output."""
    done = subprocess.run([program(), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def build_model(folder: pathlib.Path) -> None:
    """A decoder of no use with a vocabulary and a context of usual sizes, in the layout of Hugging Face."""
    call("run", "--quiet", "--out", folder / "seed", "--steps", 1, "--set", "warm_start.steps=1")
    first = folder / "seed/weights/lead/0"
    config = json.loads((first / "config.json").read_text())
    config.update(vocab_size=VOCABULARY, max_position_embeddings=8192, num_hidden_layers=1, hidden_size=16)
    config.update(intermediate_size=16, num_attention_heads=1, num_key_value_heads=1, head_dim=16)
    tokenizer = json.loads((first / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words.update({f"word{number}": number for number in range(len(words), VOCABULARY)})
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    draw = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, 16), "lm_head.weight": (VOCABULARY, 16)}
    shapes["model.norm.weight"] = (16,)
    layer = "model.layers.0."
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        shapes[f"{layer}self_attn.{name}.weight"] = (16, 16)
    for name in ("gate_proj", "up_proj", "down_proj"):
        shapes[f"{layer}mlp.{name}.weight"] = (16, 16)
    for name in ("input_layernorm", "post_attention_layernorm"):
        shapes[f"{layer}{name}.weight"] = (16,)
    arrays = {name: draw.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(arrays, model / "model.safetensors")


class Cluster:
    """Broker and learner of one measurement, ended by their process ids."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.kafka, self.run = folder / "kafka", folder / "run"
        build_model(folder)
        prompts = folder / "prompts.jsonl"
        rows = [{"prompt": f"{number:0{PROMPT - 1}}=", "answer": "0"} for number in range(64)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.up()
        chosen = {
            "run": "bench",
            "broker": self.broker,
            "model.path": folder / "model",
            "prompts.train": prompts,
            "rollout.max_tokens": LONG,
            "rollout.group_size": SAMPLES,
            "rollout.concurrent_groups": 256,
            "learner.prompts_per_update": 8192,  # never reached: nothing is trained here
            "learner.steps": 1,
            "evaluation.every": 0,
        }
        words = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
        self.log = (folder / "learn.log").open("w")
        self.learner = subprocess.Popen(
            [program(), "learn", "--out", str(self.run), *words], stdout=self.log, stderr=self.log
        )

    @property
    def topic(self) -> str:
        """The log, as :func:`vintage.read` takes it."""
        return f"kafka://{self.broker}/vintage.bench.rollouts.v1"

    def up(self) -> None:
        """Starts the broker on its folder, or again."""
        self.broker = json.loads(call("broker", "up", "--dir", self.kafka, "--output", "json"))["bootstrap"]

    def processes(self) -> list[int]:
        """Process id of the broker."""
        return [int((self.kafka / "n1/pid").read_text())]

    def freeze(self, frozen: bool) -> None:
        """Stops the learner, which would compute beside what is measured, or has it go on."""
        os.kill(self.learner.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def close(self) -> None:
        """Ends learner and broker."""
        self.freeze(False)
        self.learner.kill()
        self.learner.wait()
        self.log.close()
        call("broker", "down", "--dir", self.kafka)

    def writer(self) -> vintage.Writer:
        """A producer of the run."""
        settings = {"broker": self.broker, "rollout.concurrent_groups": 256}
        return vintage.Writer(self.run, name="bench", settings=settings)

    def get(self) -> tuple[int, int]:
        """Reads the log from its beginning; groups and tokens that came."""
        groups, tokens = set(), 0
        for batch in vintage.read(self.topic, columns=COLUMNS):
            groups.update(batch["group_id"].to_pylist())
            column = batch["completion_tokens"]
            assert isinstance(column, pa.ListArray)
            tokens += len(column.flatten())
        return len(groups), tokens


def submit(writer: vintage.Writer, slot: vintage.Slot, group: Group) -> object:
    """Hands a group over; the future is of its place in the log."""
    return writer.submit(
        slot,
        group.completions,
        group.logprobs,
        rewards=[0.0, 1.0] * (SAMPLES // 2),
        texts=[""] * SAMPLES,
        finish_reasons=["length"] * SAMPLES,
    )


if __name__ == "__main__":
    sys.exit("the program is stores.py")
