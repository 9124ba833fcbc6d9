#!/usr/bin/env bash
# Installs what Rust does not bring, with apt-get and sudo where it is needed: a C++ compiler for the
# kernels, pip for the real model; with the argument `clang` the second compiler that ci/long.sh takes.
set -euo pipefail

missing=()
command -v c++ > /dev/null || missing+=(g++)
[ "${1:-}" != clang ] || command -v clang++ > /dev/null || missing+=(clang)
python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip)
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get > /dev/null; then
    echo "missing: ${missing[*]}; install them with this system's package manager" >&2
    exit 2
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update
"${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}"
