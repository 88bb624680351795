#!/usr/bin/env bash
# Builds `vintage` with training on NVIDIA GPUs, on a machine that needs neither a GPU nor a CUDA
# toolkit:  infra/cuda/build.sh [FOLDER]   (default target/cuda; the program is FOLDER/vintage)
#
# nvcc and its headers come as Python wheels from PyPI (160 MB). Nothing of CUDA is linked: the
# program looks for the driver and cuBLAS when it is to train on a GPU, and runs on machines
# without them otherwise. For that, two of candle's crates are changed, in copies:
#   candle-core     asks cudarc for `dynamic-loading` instead of `dynamic-linking`
#   candle-kernels  leaves out 15 kernels of quantised models, which are linked statically, need
#                   libcudart and take nvcc 20 minutes; nothing here calls them
# With a toolkit at hand, neither this script nor a change is needed:
#   cargo build --release --features vintage-cli/cuda
#
# CUDA_COMPUTE_CAP (default 80) is the oldest GPU the kernels are for: the driver compiles them for
# any newer one.
set -euo pipefail

root=$(realpath "$(dirname "$0")/../..")
work=$(realpath -m "${1:-$root/target/cuda}")
kit=$work/toolkit
candle=$(sed -n 's/^candle-core = "\(.*\)"$/\1/p' "$root/Cargo.toml")

fetch_toolkit() {
  rm -rf "$kit" && mkdir -p "$kit/wheels"
  python3 -m pip download --quiet --no-deps --dest "$kit/wheels" \
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35
  for wheel in "$kit"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$kit/unpacked"; done
  cp -al "$kit"/unpacked/nvidia/cu13/. "$kit/"
  # Wheels do not keep the right to execute.
  chmod +x "$kit"/bin/* "$kit"/nvvm/bin/*
  ln -sfn lib "$kit/lib64"
  rm -r "$kit/unpacked" "$kit/wheels"
}

# Cargo writes changed sources into the lock file, so that all of it happens in a copy of the tree.
copy_tree() {
  rm -rf "$work/source" && mkdir -p "$work/source"
  cd "$root"
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- --ignore-failed-read --warning=no-failed-read |
    tar --extract --directory "$work/source"
}

# Once a version: cargo goes by the time of the files.
change_candle() {
  [ "$(cat "$work/changed/version" 2>/dev/null)" != "$candle" ] || return 0
  local registry
  (cd "$root" && cargo fetch --quiet --locked)
  registry=$(dirname "$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-core-"$candle" | head -1)")
  rm -rf "$work/changed" && mkdir -p "$work/changed"
  cp -a "$registry/candle-core-$candle" "$work/changed/candle-core"
  cp -a "$registry/candle-kernels-$candle" "$work/changed/candle-kernels"
  sed -i 's/"dynamic-linking"/"dynamic-loading"/' "$work/changed/candle-core/Cargo.toml"
  cd "$work/changed/candle-kernels"
  sed -i '/let mut moe_sources/,$d' build.rs
  cat >>build.rs <<'RUST'
    let _ = CUTILE_FEATURE;
    cc::Build::new().file("src/left_out.c").compile("moe");
    Ok(())
}
RUST
  { echo '#include <stdlib.h>'; grep -oP 'pub fn \K\w+' src/ffi.rs | sed 's/.*/void &(void) { abort(); }/'; } >src/left_out.c
  printf '\n[build-dependencies.cc]\nversion = "1"\n' >>Cargo.toml
  echo "$candle" >"$work/changed/version"
}

[ -x "$kit/bin/nvcc" ] || fetch_toolkit
copy_tree
change_candle
export CUDA_HOME=$kit CUDA_PATH=$kit CUDA_ROOT=$kit NVCC=$kit/bin/nvcc PATH=$kit/bin:$PATH
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} CUDARC_CUDA_VERSION=13000
export CARGO_TARGET_DIR=$work/target
cd "$work/source"
cargo build --release --bin vintage --features vintage-cli/cuda \
  --config "patch.crates-io.candle-core.path='$work/changed/candle-core'" \
  --config "patch.crates-io.candle-kernels.path='$work/changed/candle-kernels'"
ln -sfn target/release/vintage "$work/vintage"
if readelf -d "$work/vintage" | grep -E 'NEEDED.*lib(cuda|cublas|curand|nvrtc)'; then
  echo "build.sh: the program is linked against CUDA, so that it starts on machines with CUDA only" >&2
  exit 1
fi
echo "$work/vintage"
