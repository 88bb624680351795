"""Trains a tiny model with a real inference server as the engine, on loopback, and checks every log-prob.

usage: servers.py vllm|sglang VINTAGE VENV FOLDER [PORT]

1. Under `gate.exact = 0` the learner scores every token with the weights that the server sampled it
   with: the two log-probs must agree.
2. With completions that run while weights change, and the server killed in the middle, every
   archived token must have the log-prob that torch computes with the version its span names.
3. With vLLM, of a run that trains adapters: the server is given adapters alone, and every archived token
   must have the log-prob of the version that torch merges. What a change of weights would cut off is whole.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import numpy
import pyarrow.parquet
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

KIND, VINTAGE = sys.argv[1:3]
VENV, FOLDER = (pathlib.Path(path).absolute() for path in sys.argv[3:5])
PORT = int(sys.argv[5]) if len(sys.argv) > 5 else 18010
URL = f"http://127.0.0.1:{PORT}"
CHARACTERS = ["<pad>", "<eos>", *"0123456789+="]
LAYERS, WIDTH, HEADS, HEAD_DIM, INNER = 2, 64, 2, 32, 128
# Both compute in f32, in orders of their own.
TOLERANCE = 2e-4
# Sevens are easier to find than sums for a model that begins at random.
JUDGE = """import json, sys
for line in sys.stdin:
    item = json.loads(line)
    text = item["completion"]
    reward = text.count("7") / max(len(text), 1)
    print(json.dumps({"id": item["id"], "reward": reward}), flush=True)
"""


def model(folder):
    """Writes a tiny Llama over characters, whose head_dim vLLM's CPU attention supports."""
    folder.mkdir(parents=True)
    draw = numpy.random.default_rng(5)

    def matrix(rows, columns, scale):
        return (draw.standard_normal((rows, columns)) * scale).astype(numpy.float32)

    def ones():
        return numpy.ones(WIDTH, numpy.float32)

    weights = {
        "model.embed_tokens.weight": matrix(len(CHARACTERS), WIDTH, 1.0),
        "lm_head.weight": matrix(len(CHARACTERS), WIDTH, 0.2),
        "model.norm.weight": ones(),
    }
    inner = HEADS * HEAD_DIM
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for name, rows, columns in [
            ("self_attn.q_proj", inner, WIDTH), ("self_attn.k_proj", inner, WIDTH),
            ("self_attn.v_proj", inner, WIDTH), ("self_attn.o_proj", WIDTH, inner),
            ("mlp.gate_proj", INNER, WIDTH), ("mlp.up_proj", INNER, WIDTH),
            ("mlp.down_proj", WIDTH, INNER),
        ]:
            weights[f"{at}.{name}.weight"] = matrix(rows, columns, columns**-0.5)
        weights[f"{at}.input_layernorm.weight"] = ones()
        weights[f"{at}.post_attention_layernorm.weight"] = ones()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(CHARACTERS),
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": HEAD_DIM,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "max_position_embeddings": 256, "tie_word_embeddings": False, "attention_bias": False,
        "bos_token_id": None, "eos_token_id": 1, "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": id, "content": CHARACTERS[id], **special} for id in (0, 1)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated",
                          "invert": False},
        "post_processor": None, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {text: id for id, text in enumerate(CHARACTERS)}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "pad_token": "<pad>"}))


# What a server needs to run on a CPU with little memory.
ENVIRONMENT = {
    "vllm": {
        "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    },
    "sglang": {
        "SGLANG_USE_CPU_ENGINE": "1", "CUDA_VISIBLE_DEVICES": "", "LD_LIBRARY_PATH": str(VENV / "stub"),
    },
}
COMMAND = {
    "vllm": [
        VENV / "bin/vllm", "serve", FOLDER / "model", "--served-model-name", "policy", "--dtype", "float32",
        "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "64", "--enable-scale-out",
        "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm",
        "--enable-lora", "--max-lora-rank", "8", "--max-loras", "2",
    ],
    "sglang": [
        VENV / "bin/python", "-m", "sglang.launch_server", "--model-path", FOLDER / "model",
        "--served-model-name", "policy", "--device", "cpu", "--dtype", "float32",
        "--disable-overlap-schedule", "--disable-cuda-graph", "--mem-fraction-static", "0.1",
        "--max-total-tokens", "8192", "--max-running-requests", "32", "--context-length", "256",
        "--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--skip-server-warmup",
    ],
}


class Server:
    """Inference server in a process group of its own."""

    def __init__(self, log):
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | ENVIRONMENT[KIND]
        command = [*COMMAND[KIND], "--host", "127.0.0.1", "--port", str(PORT)]
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log,
                                        start_new_session=True)

    def wait(self):
        began = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"{URL}/health", timeout=2)
                return time.monotonic() - began
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{KIND} ended with {self.process.returncode}: see {FOLDER}/server.log")
                time.sleep(0.5)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def command(out, steps, *settings):
    settings = [
        f"model.path={FOLDER / 'model'}", f"rollout.engine={KIND}", f'rollout.endpoints=["{URL}"]',
        f"learner.steps={steps}", "learner.keep_versions=1000", "learner.optimizer.lr=0.003",
        "learner.prompts_per_update=8", "rollout.concurrent_groups=8", "rollout.group_size=4",
        "evaluation.prompts=8", 'rollout.reward.command=["python3", "judge.py"]',
        f"rollout.reward.directory={FOLDER}", *settings,
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    return [VINTAGE, "-v", "run", "--prompts", FOLDER / "prompts.jsonl", "--out", out, *flags]


def results(out):
    files = (out / "results/lead").glob("*.json")
    return [json.loads(file.read_text()) for file in sorted(files, key=lambda file: int(file.stem))]


def score(config, weights, ids, temperature):
    """Log-probs of `ids[1:]`, by a Llama written for this check."""
    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]) * weight

    count, half = len(ids), HEAD_DIM // 2
    angles = torch.outer(torch.arange(count).float(),
                         config["rope_theta"] ** (-torch.arange(half).float() / half))
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    def turn(x):
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        def w(name, at=f"model.layers.{layer}"):
            return weights[f"{at}.{name}.weight"]

        h = norm(x, w("input_layernorm"))
        q, k, v = ((h @ w(f"self_attn.{name}_proj").T).view(count, HEADS, HEAD_DIM).transpose(0, 1)
                   for name in "qkv")
        q, k = turn(q), turn(k)
        scores = q @ k.transpose(1, 2) / HEAD_DIM**0.5
        scores += torch.full((count, count), -torch.inf).triu(1)
        x = x + (scores.softmax(-1) @ v).transpose(0, 1).reshape(count, -1) @ w("self_attn.o_proj").T
        h = norm(x, w("post_attention_layernorm"))
        x = x + (torch.nn.functional.silu(h @ w("mlp.gate_proj").T) * (h @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
    logits = norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T / temperature
    return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def read(folder):
    """Weights of a version: whole, or version 0 with adapters merged."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    weights = load_file(folder.parent / "0/model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    factors = load_file(folder / "adapter_model.safetensors")
    for name in {name.rsplit(".lora_", 1)[0] for name in factors}:
        a, b = (factors[f"{name}.lora_{factor}.weight"] for factor in "AB")
        weights[name.removeprefix("base_model.model.") + ".weight"] += config["lora_alpha"] / config["r"] * (b @ a)
    return weights


def compare(out):
    """Scores every archived token with the version that its span names."""
    config = json.loads((out / "weights/lead/0/config.json").read_text())
    weights, worst, tokens, rows, crossed, versions = {}, 0.0, 0, 0, 0, set()
    for file in (out / "archive").rglob("*.parquet"):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            rows += 1
            prompt, sampled = row["prompt_tokens"], row["completion_tokens"]
            spans = row["policy_spans"]
            crossed += len(spans) > 1
            ends = [span["start"] for span in spans[1:]] + [len(sampled)]
            for span, end in zip(spans, ends):
                version = span["version"]
                versions.add(version)
                if version not in weights:
                    weights[version] = read(out / f"weights/lead/{version}")
                right = score(config, weights[version], prompt + sampled, row["temperature"])
                for at in range(span["start"], end):
                    given = row["behavior_logprobs"][at]
                    worst = max(worst, abs(given - float(right[len(prompt) - 1 + at])))
                    tokens += 1
    return {"rows": rows, "tokens": tokens, "rows_of_several_versions": crossed,
            "versions": len(versions), "worst_difference": worst}


def audited(out):
    audit = subprocess.run([VINTAGE, "audit", "--offline", out], capture_output=True, text=True)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def adapted():
    """Trains adapters, of which the server is given those of every version."""
    out = FOLDER / "adapters"
    settings = ["gate.max_staleness=8", "rollout.max_tokens=64", "learner.lora.rank=8",
                "learner.optimizer.lr=0.02", "rollout.server.adapters=true"]
    with open(FOLDER / "adapters.log", "w") as errors:
        subprocess.run(command(out, 20, *settings), stdout=errors, stderr=errors, check=True)
    rewards = [round(result["reward"], 3) for result in results(out)]
    stored = [version.name for version in (out / "weights/lead").iterdir()
              if not (version / "model.safetensors").exists()]
    whole = sum(file.stat().st_size for file in (out / "weights/lead/0").iterdir())
    alone = sum(file.stat().st_size for file in (out / "weights/lead/1").iterdir())
    report = {"updates": len(rewards), "first_reward": rewards[0], "last_reward": rewards[-1],
              "versions_of_adapters": len(stored), "bytes": alone, "bytes_whole": whole, **compare(out)}
    assert report["updates"] == 20 and report["versions_of_adapters"] == 19, report
    assert report["worst_difference"] < TOLERANCE, report
    assert report["versions"] > 10 and report["last_reward"] > report["first_reward"], report
    audited(out)
    return report


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    model(FOLDER / "model")
    prompts = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10, 20) for b in range(10)]
    (FOLDER / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    (FOLDER / "judge.py").write_text(JUDGE)
    log = open(FOLDER / "server.log", "w")
    server = Server(log)
    try:
        report = {"server": KIND, "start_seconds": round(server.wait(), 1)}

        exact = FOLDER / "exact"
        with open(FOLDER / "exact.log", "w") as errors:
            subprocess.run(command(exact, 6, "gate.exact=0", "rollout.max_tokens=12"),
                           stdout=errors, stderr=errors, check=True)
        found = results(exact)
        report["exact"] = {
            "updates": len(found), "tokens": sum(result["tokens"] for result in found),
            "largest_log_ratio": max(result["max_log_ratio"] for result in found),
        }
        assert all(result["skipped"] is None for result in found), "no update may leave the weights"
        assert len(found) == 6 and report["exact"]["tokens"] > 0, report
        assert report["exact"]["largest_log_ratio"] < TOLERANCE, report

        killed = FOLDER / "killed"
        with open(FOLDER / "killed.log", "w") as errors:
            run = subprocess.Popen(
                command(killed, 30, "gate.max_staleness=8", "rollout.max_tokens=64"),
                stdout=errors, stderr=errors)
            while len(results(killed)) < 6:
                assert run.poll() is None, f"the run ended: see {FOLDER}/killed.log"
                time.sleep(0.1)
            server.kill()
            report["killed_after_updates"] = len(results(killed))
            server = Server(log)
            assert run.wait() == 0, f"the run failed: see {FOLDER}/killed.log"
        found = results(killed)
        rewards = [round(result["reward"], 3) for result in found]
        report["killed"] = {"updates": len(found), "first_reward": rewards[0],
                            "last_reward": rewards[-1], **compare(killed)}
        assert report["killed"]["updates"] == 30, report
        assert report["killed"]["worst_difference"] < TOLERANCE, report
        assert report["killed"]["last_reward"] > report["killed"]["first_reward"], report
        audited(killed)
        if KIND == "vllm":
            report["adapters"] = adapted()
        print(json.dumps(report, indent=1))
    finally:
        server.kill()


main()
