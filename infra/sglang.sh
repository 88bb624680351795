#!/usr/bin/env bash
# Installs SGLang from PyPI for `make check-sglang`, and says so. usage: infra/sglang.sh DIR
# 10 GB, most of it CUDA libraries. Nothing is touched that is there already.
set -euo pipefail
venv=${1:?a folder for the Python environment}
sglang=0.5.23
stub=$venv/stub/libcuda.so.1

if [ ! -e "$venv/bin/python" ]; then
  printf 'setup: installing sglang %s into %s\n' "$sglang" "$venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check uv
  VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet "sglang==$sglang" pyarrow
fi
# Its kernels are linked with the NVIDIA driver, which a machine without a GPU does not have: a library
# that says so to every call is enough for them to load.
if [ ! -e "$stub" ]; then
  mkdir -p "$venv/stub"
  gcc -shared -fPIC -x c -Wl,-soname,libcuda.so.1 -o "$stub" - <<'C'
enum { NO_DEVICE = 100 };
int cuInit(unsigned flags) { return NO_DEVICE; }
int cuDriverGetVersion(int *version) { *version = 0; return NO_DEVICE; }
int cuDeviceGetCount(int *count) { *count = 0; return NO_DEVICE; }
int cuPointerGetAttribute(void *data, int attribute, unsigned long long pointer) { return NO_DEVICE; }
int cuGetErrorString(int error, const char **text) { *text = "no device"; return 0; }
C
fi
