#!/usr/bin/env bash
# Installs TRL, verl, Ray and TransferQueue from PyPI, for `make check-adapters`, and says so. usage: infra/python/adapters.sh DIR
# 6 GB, most of it the CUDA libraries that torch brings along. Nothing is touched that is there already.
set -euo pipefail
venv=${1:?a folder for the Python environment}
requirements=$(dirname "$0")/tests/adapter_tests/requirements.txt
stamp=$venv/.adapters
cmp -s "$requirements" "$stamp" && exit 0
[ -x "$venv/bin/trl" ] && [ ! -e "$stamp" ] && exit 0 # somebody's own

printf 'setup: installing TRL, verl, Ray and TransferQueue into %s\n' "$venv" >&2
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps verl==0.9.1
cp "$requirements" "$stamp"
