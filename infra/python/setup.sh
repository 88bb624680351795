#!/usr/bin/env bash
# Installs maturin, which builds the wheel, into a Python environment, and says so. usage: infra/python/setup.sh DIR
# Nothing is touched that is there already.
set -euo pipefail
venv=${1:?a folder for the Python environment}
maturin=1.16.0
stamp=$venv/.maturin-$maturin
[ -e "$stamp" ] && exit 0

printf 'setup: installing maturin %s into %s\n' "$maturin" "$venv" >&2
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "maturin==$maturin"
touch "$stamp"
