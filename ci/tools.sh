#!/usr/bin/env bash
# Installs what Rust does not bring, with apt-get and sudo where it is needed: a C++ compiler for the
# kernels, pip for the real model. Arguments add to that: `clang`, the second compiler that
# ci/long.sh takes; `hip`, what compiles the kernels for AMD GPUs and reads the result; `browser`, the
# Chromium that opens reports in harness/tests/report_browser.rs; `lint`, what the linter of workflows
# runs in.
set -euo pipefail

missing=()
command -v c++ > /dev/null || missing+=(g++)
python3 -m pip --version > /dev/null 2>&1 || missing+=(python3-pip)
for wish in "$@"; do
    case $wish in
        clang) command -v clang++ > /dev/null || missing+=(clang) ;;
        hip)
            command -v clang++-19 > /dev/null || missing+=(clang-19)
            command -v ld.lld-19 > /dev/null || missing+=(lld-19)
            command -v llvm-readelf-19 > /dev/null || missing+=(llvm-19)
            ;;
        browser)
            [ -n "${LOCKSTEP_BROWSER:-}" ] ||
                command -v chromium chromium-browser google-chrome > /dev/null ||
                missing+=(chromium)
            ;;
        lint) command -v npm > /dev/null || missing+=(npm) ;;
        *)
            echo "unknown argument $wish: clang, hip, browser and lint are known" >&2
            exit 2
            ;;
    esac
done
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
for package in "${missing[@]}"; do
    if [ "$package" = chromium ] && [ -z "$(apt-cache show chromium 2> /dev/null)" ]; then
        echo "no package chromium here: LOCKSTEP_BROWSER names a browser that is installed" >&2
        exit 2
    fi
done
"${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}"
