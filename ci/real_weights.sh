#!/usr/bin/env bash
# SmolLM2's real weights in every type, or in those that are given, each in lockstep over 64 prompt
# tokens and 64 steps.
# The word behind each name is the verdict; the first divergence ends the script.
set -euo pipefail
cd "$(dirname "$0")/.."

lockstep=(cargo run --locked --release --quiet --)
model=smollm2-135m-instruct
mixes=("$@")
[ $# -gt 0 ] || mixes=(f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k_m q4_k_m q5_k_m q6_k)
prompt=$(seq --separator=, 1000 97 7111)
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT

"${lockstep[@]}" fetch "$model"
for mix in "${mixes[@]}"; do
    file=$folder/$mix.gguf
    "${lockstep[@]}" fixture --from "$model" --mix "$mix" --out "$file" > /dev/null
    printf '%-8s' "$mix"
    "${lockstep[@]}" run --model "$file" --tokens "$prompt" --max-tokens 65 --greedy --past-end \
        --out "$folder/out" | grep -E '^verdict'
    printf '%-8s' "$mix"
    "${lockstep[@]}" run --model "$file" --tokens "$prompt" --max-tokens 65 --greedy --past-end \
        --reference wide | grep -E '^worst'
    rm -r "$file" "$folder/out"
done
