#!/usr/bin/env bash
# What every change has to pass, on a machine without a GPU. Runs by hand the same way.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
    local start=$SECONDS
    echo "== $*"
    "$@"
    echo "   $((SECONDS - start)) s"
}

export RUSTDOCFLAGS="-D warnings"
# A kernel that does not compile for AMD GPUs, and a test of that code that is skipped, are errors.
export LOCKSTEP_REQUIRE_HIP=1
# Nor does a report go by that no browser has opened.
export LOCKSTEP_REQUIRE_BROWSER=1

step ci/tools.sh hip browser
step ci/lint.sh
step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets -- -D warnings
step cargo doc --locked --workspace --no-deps
step cargo run --locked --release -- run
step cargo run --locked --release -- fetch smollm2-135m-instruct
step cargo run --locked --release -- run --model smollm2-135m-instruct --prompt "Hi" \
    --max-tokens 16 --greedy --reference wide
step ci/nvrtc.sh
step ci/tests.sh
