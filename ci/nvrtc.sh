#!/usr/bin/env bash
# Compiles every kernel with NVRTC, NVIDIA's compiler at run time, which needs no GPU and no driver:
# it comes as a Python package, into a folder below target.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/nvrtc
library=$folder/nvidia/cuda_nvrtc/lib
if [ ! -e "$library/libnvrtc.so.12" ]; then
    python3 -m pip install --quiet --no-deps --target "$folder" nvidia-cuda-nvrtc-cu12==12.9.86
fi
export LD_LIBRARY_PATH=$PWD/$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LOCKSTEP_REQUIRE_NVRTC=1
# All packages: with their features as `cargo test` has them, and nothing is built again for it.
exec cargo test --locked --workspace --lib cuda -- --nocapture
