"""Reads folders that vintage exported with transformers, beside the models they were made of.

usage: exported.py [ORIGINAL EXPORTED ORACLE]...

Config, tokenizer, chat template, generation config, and the names, shapes and dtypes of the weights
must be what transformers makes of the original. Where torch is installed, the model itself is loaded:
no weight may be missing or left over, and what it says of the oracle's batch must not be what the
original says.
"""

import json
import os
import pathlib
import sys

import numpy
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

try:
    import torch
except ImportError:
    if "TORCH_PYTHON" in os.environ:
        sys.exit(f"{sys.executable} has no torch, for which TORCH_PYTHON asks")
    torch = None


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: {found!r}, expected {expected!r}")


def config(folder):
    values = AutoConfig.from_pretrained(folder).to_dict()
    # What a file says of itself, the dtype (exports are float32), and the stop ids: those of the
    # generation config are in the exported config too.
    for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "eos_token_id"):
        values.pop(key, None)
    return values


def weights(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():
                found[name] = tensors.get_tensor(name)
    return found


def logits(folder, oracle):
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        same(f"{folder} {kind}", sorted(report[kind]), [])
    with safe_open(oracle / "forward.safetensors", "pt") as batch:
        ids, mask = batch.get_tensor("input_ids"), batch.get_tensor("attention_mask")
        expected = batch.get_tensor("logits")
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).logits
    return ((found - expected).abs() * mask[..., None]).max().item()


def check(original, exported, oracle):
    before, after = config(original), config(exported)
    for key in sorted(before.keys() | after.keys()):
        same(f"{exported} config {key}", after.get(key), before.get(key))

    texts = json.loads((oracle / "tokenizer.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for case in texts["cases"]:
        same("ids", tokenizer(case["text"])["input_ids"], case["ids"])
        same("text", tokenizer.decode(case["ids"]), case["decoded"])
    chat = texts["chat"]
    rendered = tokenizer.apply_chat_template(
        chat["messages"], add_generation_prompt=chat["add_generation_prompt"], tokenize=False
    )
    same("chat", rendered, chat["rendered"])
    generation = [GenerationConfig.from_pretrained(at).to_dict() for at in (exported, original)]
    same("generation config", *generation)

    old, new = weights(original), weights(exported)
    same("tensors", sorted(new), sorted(old))
    for name, tensor in new.items():
        same(name, (tensor.shape, tensor.dtype), (old[name].shape, numpy.dtype("float32")))
        same(f"{name} moved by training", numpy.array_equal(tensor, old[name]), False)
    if torch:
        # transformers' own error in float32 is 1.1e-5.
        same("logits of the original", logits(original, oracle) < 5e-5, True)
        same("logits after training", logits(exported, oracle) > 1e-3, True)


arguments = [pathlib.Path(argument) for argument in sys.argv[1:]]
for at in range(0, len(arguments), 3):
    check(*arguments[at : at + 3])
print(f"{len(arguments) // 3} folders", "with torch" if torch else "without torch")
