#!/usr/bin/env bash
# What `cargo test` leaves out for its length: 100,000 cases of operations, in release and with
# another compiler's kernels, real weights in every type, a thousand runs in one process, kernels
# under sanitizers, and planted edits for as many minutes as are given (all of them need forty).
# With 0 it is the short form of .ci/run: a quarter of the cases, three types of real weights, no
# edits, no thousand runs, and clang's kernels under sanitizers alone, in one order of threads:
# building everything for them takes longer than its tests.
set -euo pipefail
cd "$(dirname "$0")/.."

planted_minutes=${1:-60}
times=8 types=() orders=()
# Whole types, and two that have others beside them.
[ "$planted_minutes" -gt 0 ] || times=2 types=(q5_0 q3_k_m q4_k_m) orders=(7)

step() {
    local start=$SECONDS
    echo "== $*"
    "$@"
    echo "   $((SECONDS - start)) s"
}

# One setting for all scripts, so that nothing is built twice.
export LOCKSTEP_REQUIRE_HIP=1
step ci/tools.sh clang hip
# With the packages' features as everything else is built here.
step cargo build --locked --release --workspace --example exp_error
step target/release/examples/exp_error
step env LOCKSTEP_CASES_TIMES="$times" LOCKSTEP_CASES_SEED="$(date +%Y%m%d)" \
    cargo test --locked --release -p harness --test operations
step ci/real_weights.sh "${types[@]}"
if [ "$planted_minutes" -gt 0 ]; then
    # The kernels by clang; the tests around them stay as they are.
    step env CXX=clang++ LOCKSTEP_GROWTH_RUNS=1000 cargo test --locked -p harness \
        --test operations --test spelling --test growth
fi
step ci/sanitizers.sh "${orders[@]}"
if [ "$planted_minutes" -gt 0 ]; then
    step cargo run --locked --release -p harness --example planted -- --minutes "$planted_minutes"
fi
