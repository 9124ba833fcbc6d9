#!/usr/bin/env bash
# Runs the README's test command and ends with the sum of the runner's own summaries. A test that
# was ignored is skipped, never passed. Fails when a test fails and when none ran.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A snapshot that changed is a failure here; on a desk it waits for its review.
INSTA_UPDATE=no cargo test 2>&1 | tee "$log"
code=${PIPESTATUS[0]}

awk -v code="$code" '
    /^test result: / {
        for (field = 2; field <= NF; ++field) {
            if ($field ~ /^passed/) passed += $(field - 1)
            if ($field ~ /^failed/) failed += $(field - 1)
            if ($field ~ /^ignored/) skipped += $(field - 1)
        }
    }
    END {
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit code != 0 ? code : failed > 0 || passed == 0
    }
' "$log"
