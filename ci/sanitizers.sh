#!/usr/bin/env bash
# The kernels for the host under clang's sanitizers of addresses and undefined behaviour: the engine's
# own tests, kernels and whole models in every build, with the threads of waves in the first of the orders
# that are given, and what runs on waves in the others. Orders are seeds; 0, the first by default, is that
# of the threads' numbers.
# The first report ends a test with it. What is planted has to be seen first: reads and writes past a
# buffer and past an array of the stack, a shift, a misaligned load, a missing barrier.
set -euo pipefail
cd "$(dirname "$0")/.."

orders=("$@")
[ $# -gt 0 ] || orders=(0 7 8127)

step() {
    echo "== $*"
    "$@"
}

ci/tools.sh hip
# clang for the kernels, and no code for GPUs, which does not run here.
export CXX=clang++-19 LOCKSTEP_SANITIZE=1 LOCKSTEP_HIPCC=false LOCKSTEP_REQUIRE_HIP=0
# A folder of its own, so that other builds' kernels stay: the engine alone needs few packages.
export CARGO_TARGET_DIR=target/sanitizers
# Leaks are found by counts over a thousand runs. The stack of a fiber is not the sanitizer's own.
export ASAN_OPTIONS=halt_on_error=1:detect_leaks=0:detect_stack_use_after_return=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

engine=(cargo test --locked -p engine --lib --)
step "${engine[@]}" planted
step env LOCKSTEP_ORDER="${orders[0]}" "${engine[@]}" --skip device::cuda
for order in "${orders[@]:1}"; do
    step env LOCKSTEP_ORDER="$order" "${engine[@]}" tuned llama
done
