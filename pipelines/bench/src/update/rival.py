"""Runs updates of a model in PyTorch, on request, so that its runs alternate with another program's.

usage: rival.py FOLDER THREADS DEVICE

FOLDER has a config.json; weights are random. Reads one JSON object a line, {"rows", "prompt", "completion",
"micro_batch_tokens", "recompute", "bf16"}, and answers with seconds and CPU seconds of one update: forward pass, log-probs of the
completion's tokens, backward pass over every micro-batch, clipped norm, AdamW; on a GPU also the peak of its memory in bytes.
With bf16, products are of bf16 by autocast; parameters and moments are float32 always. The weight of every token is
given, as if a rule had computed it. The first line that it writes gives versions.
"""
import json
import sys
import time

import torch
import transformers

folder, threads, device = sys.argv[1], int(sys.argv[2]), torch.device(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(1)
config = transformers.AutoConfig.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
model.config.use_cache = False
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.01, fused=True)
print(json.dumps({
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "python": sys.version.split()[0],
    "attention": model.config._attn_implementation,
}), flush=True)


def synchronize():
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def update(asked):
    rows, prompt, completion = asked["rows"], asked["prompt"], asked["completion"]
    length = prompt + completion
    ids = torch.randint(0, config.vocab_size, (rows, length), device=device)
    weights = torch.where(torch.arange(rows, device=device) % 2 == 0, 1.0, -1.0)[:, None].expand(rows, completion)
    at_once = max(1, asked["micro_batch_tokens"] // length)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    synchronize()
    begun, used = time.perf_counter(), time.process_time()
    for first in range(0, rows, at_once):
        piece = ids[first:first + at_once]
        # The head only where a token of the completion is predicted.
        with torch.autocast(device.type, torch.bfloat16, enabled=asked["bf16"]):
            logits = model(piece[:, :-1], logits_to_keep=completion).logits
        logprobs = -torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), piece[:, prompt:].flatten(), reduction="none")
        loss = -(weights[first:first + at_once].flatten() * logprobs).sum() / (rows * completion)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    synchronize()
    took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - used}
    if device.type == "cuda":
        took["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return took


for line in sys.stdin:
    asked = json.loads(line)
    if asked["recompute"]:
        model.gradient_checkpointing_enable()
    print(json.dumps(update(asked)), flush=True)
