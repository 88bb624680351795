"""Loads the adapter of a run's newest checkpoint with peft, on version 0 of the run, and compares its
logits with those of the version that the run published with the adapter merged.

usage: adapter.py RUN [POLICY]; needs torch, transformers, peft and safetensors.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers

run, policy = Path(sys.argv[1]), (sys.argv[2:] or ["lead"])[0]
versions = sorted(int(folder.name) for folder in (run / "checkpoints" / policy).iterdir())
(adapter,) = (run / "checkpoints" / policy / str(versions[-1])).glob("adapter-*")
base, published = (run / "weights" / policy / str(version) for version in (0, versions[-1]))


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


with tempfile.TemporaryDirectory() as whole:
    shutil.copy(base / "config.json", whole)
    shutil.copy(published / "model.safetensors", whole)
    merged = load(whole)
plain = load(base)
tokens = torch.randint(plain.config.vocab_size, (4, 24), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    expected, before = merged(tokens).logits, plain(tokens).logits
    adapted = peft.PeftModel.from_pretrained(plain, adapter)
    found = adapted.eval()(tokens).logits
    moved = (expected - before).abs().max().item()
    off = (expected - found).abs().max().item()
trained = [name for name, _ in adapted.named_parameters() if "lora_" in name]
print(f"version {versions[-1]}: {len(trained)} tensors of adapters")
print(f"logits moved by {moved:.3g} in training; peft's differ from the merged model's by {off:.3g}")
if not trained or moved < 1e-4 or off > 1e-5 * max(1.0, expected.abs().max().item()):
    sys.exit("peft does not give what was published")
