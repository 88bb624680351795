#!/usr/bin/env bash
# Checks training on the NVIDIA GPU of this machine, with a program that was built for one:
#   infra/cuda/check.sh [PROGRAM] [FOLDER]    (default target/cuda/vintage, results in target/cuda/check)
# the mask on the oracle's cases, parity with transformers, a short training run with its exact
# replay, and a table of tokens per second; VINTAGE_PYTHON names a Python with torch and transformers, which then
# computes the same updates in turns, VINTAGE_MODELS more models. Exits 0 if all holds, else with what does not.
set -euo pipefail

root=$(realpath "$(dirname "$0")/../..")
vintage=$(realpath -m "${1:-$root/target/cuda/vintage}")
out=$(realpath -m "${2:-$root/target/cuda/check}")
device=${VINTAGE_DEVICE:-cuda}
unset VINTAGE_DEVICE  # the program takes it for a setting that is spelt wrong
fail() { echo "check.sh: $*" >&2; exit 1; }

[ -x "$vintage" ] || fail "there is no $vintage: build it with infra/cuda/build.sh, or name it"
nvidia-smi -L >/dev/null 2>&1 || fail "no NVIDIA GPU here (nvidia-smi finds none): nothing was checked"
why=$("$vintage" weigh --device "$device" /dev/null 2>&1) || fail "$why"

rm -rf "$out" && mkdir -p "$out"
step() { echo; echo "== $*"; }

step "M2PO's mask on the GPU, 201 cases against exact arithmetic rounded to f32"
"$vintage" weigh --device "$device" "$root/consumers/losses/tests/oracle/m2po_cases.jsonl" >"$out/cases.jsonl" ||
  fail "the mask differs: see \"differs\" in $out/cases.jsonl"
echo "$(wc -l <"$out/cases.jsonl") cases, all as the reference has them"

step "parity with transformers in float64"
"$vintage" parity "$root/tests/data/parity" --device "$device" | tee "$out/parity.txt" ||
  fail "out of bounds: see $out/parity.txt"

step "a short run of the built-in task, and its plans again"
"$vintage" run --quiet --out "$out/run" --steps 40 --set learner.device="$device" \
  --set warm_start.steps=600 --output json >"$out/run.json" || fail "the run failed: see $out/run"
"$vintage" replay "$out/run" --exact --output json | tee "$out/replay.json" ||
  fail "the same plans gave other bits on this GPU: see $out/replay.json"

step "tokens per second${VINTAGE_PYTHON:+, beside PyTorch}"
beside=(${VINTAGE_PYTHON:+--python "$VINTAGE_PYTHON"})
"$vintage" bench update --device "$device" --rows 64 --prompt 128 --completion 384 "${beside[@]}" | tee "$out/bench.txt"
for model in ${VINTAGE_MODELS:-}; do
  "$vintage" bench update --device "$device" --model "$model" --rows 32 --prompt 256 --completion 768 \
    --micro-batch-tokens 8192 --recompute "${beside[@]}" | tee -a "$out/bench.txt"
done
echo; echo "All holds. Files are in $out."
