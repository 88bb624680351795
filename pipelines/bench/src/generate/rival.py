"""Samples completions with transformers' generate, on request, so that its runs alternate with another program's.

usage: rival.py FOLDER THREADS

Reads one JSON object a line, {"prompts": [[id, ...], ...], "completion": N}, and answers with {"seconds": S, "cpu_seconds": S}. The
first line that it writes gives versions. Prompts of a call have one length, so nothing is padded. No token ends a
completion. Log-probs are not asked for.
"""
import json
import sys
import time

import torch
import transformers

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
transformers.utils.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
model.eval()
settings = model.generation_config
settings.eos_token_id = None
settings.pad_token_id = 0
torch.manual_seed(1)
print(json.dumps({
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "python": sys.version.split()[0],
    "attention": model.config._attn_implementation,
}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    prompts = torch.tensor(asked["prompts"])
    length = asked["completion"]
    begun, used = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        out = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            use_cache=True, max_new_tokens=length)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    if out.shape != (prompts.shape[0], prompts.shape[1] + length):
        sys.exit(f"generate gave {tuple(out.shape)}")
    print(json.dumps({"seconds": seconds, "cpu_seconds": used}), flush=True)
