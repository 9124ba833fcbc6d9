#!/usr/bin/env bash
# A night on one card: can it turn red, are operations and models equal bit for bit, is it as fast as
# on the nights before? A step that fails does not hide the later ones, and what was not done is said.
# Every step is a line in DIR/nightly.jsonl and a log beside it; DIR/summary.md is for people.
# The exit code is that of the worst step: 1 before 4 before 3 before 2 before 0.
# Steps are called by their names.
# shellcheck disable=SC2329
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

usage="usage: ci/nightly.sh --device hip|hip:N|cuda|cuda:N|host [--models small|all] [--out DIR]
    [--history FILE] [--minutes N] [--quick]
  --models   small: the embedded model and SmolLM2; all: Llama-3-8B-Instruct Q4_K_M as well
             [default: all, on the host small]
  --out      where everything is written; what was there is removed [default: target/nightly]
  --history  the speeds of earlier nights [default: ~/.local/state/lockstep/history.jsonl]
  --minutes  begin no further step after so many minutes [default: 180]
  --quick    the same steps on the embedded model, in two minutes"

refuse() {
    printf '%s\n%s\n' "$1" "$usage" >&2
    exit 2
}

device='' models='' out=target/nightly history='' minutes=180 quick=0
while [ $# -gt 0 ]; do
    case $1 in
        --device | --models | --out | --history | --minutes)
            [ $# -ge 2 ] || refuse "$1 needs a value"
            declare "${1#--}=$2"
            shift 2
            ;;
        --quick) quick=1 && shift ;;
        *) refuse "unknown argument $1" ;;
    esac
done
[[ $device =~ ^(host|hip(:[0-9]+)?|cuda(:[0-9]+)?)$ ]] || refuse "--device: which card? '$device'"
if [ -z "$models" ]; then
    [ "$device" = host ] && models=small || models=all
fi
[[ $models =~ ^(small|all)$ ]] || refuse "--models: small or all, not '$models'"
[[ $minutes =~ ^[1-9][0-9]*$ ]] || refuse "--minutes: a whole number above 0, not '$minutes'"
# A quick night leaves nothing outside of its own folder.
state=${XDG_STATE_HOME:-${HOME:+$HOME/.local/state}}/lockstep
if [ "$quick" = 0 ] && [ "$state" = /lockstep ]; then
    refuse "neither XDG_STATE_HOME nor HOME is set: no folder for speeds and recordings"
fi
if [ -z "$history" ]; then
    [ "$quick" = 1 ] && history=$out/history.jsonl || history=$state/history.jsonl
fi

# Two nights on one card would measure each other, and in one folder remove each other's files.
# A name without a number is the first card.
card=$device
[[ $card =~ ^(hip|cuda)$ ]] && card=$card:0
out=${out%/}
lock=${TMPDIR:-/tmp}/lockstep-nightly-${card//:/-}.lock
exec 9> "$lock" || refuse "cannot open $lock, which keeps two nights off one card"
flock --nonblock 9 || { echo "another night is running on $card" >&2; exit 4; }
mkdir -p "$(dirname "$out")" || refuse "--out: cannot write $out"
exec 8> "$out.lock" || refuse "--out: cannot open $out.lock, which keeps two nights out of one folder"
flock --nonblock 8 || { echo "another night is writing into $out" >&2; exit 4; }
if [ -e "$out" ] && [ ! -e "$out/nightly.jsonl" ] && [ -n "$(ls -A "$out")" ]; then
    refuse "--out: $out holds something that no night left there"
fi
if ! rm -rf "$out" || ! mkdir -p "$out" "$(dirname "$history")"; then
    refuse "--out: cannot write $out"
fi
: > "$out/nightly.jsonl"

small=smollm2-135m-instruct
large=llama3-8b-instruct-q4_k_m
lockstep=${LOCKSTEP_BINARY:-target/release/lockstep}
# The job's summary is this script's; what it runs would add its own.
job_summary=${GITHUB_STEP_SUMMARY:-}
unset GITHUB_STEP_SUMMARY
# The kernels for AMD GPUs are needed where there is one. Elsewhere the caller says.
[[ $device != hip* ]] || export LOCKSTEP_REQUIRE_HIP=1

begin=$SECONDS
deadline=$((begin + minutes * 60))
codes=()

# Whoever ends this script ends the command that runs and what it has started, and no other begins.
# A shell looks at signals between commands and while it waits, so whatever takes time is waited for.
interrupted=0 job=''
interrupt() {
    interrupted=1
    [ -z "$job" ] || kill -TERM "$job" 2> /dev/null
}
trap 'echo "interrupted: what is left is not run"; interrupt' INT TERM

# Waits for the job to its end: a signal ends the waiting alone.
await() {
    local code
    # It came before there was somebody to pass it on to.
    [ "$interrupted" = 0 ] || kill -TERM "$job" 2> /dev/null
    while :; do
        wait "$job"
        code=$?
        kill -0 "$job" 2> /dev/null || break
    done
    job=''
    return $code
}

# Runs a command until the step's time is over.
limited() {
    local left=$((step_end - SECONDS))
    [ "$interrupted" = 0 ] || return 4
    timeout --kill-after=20 $((left > 1 ? left : 1)) "$@" &
    job=$!
    await
}

# The codes of lockstep stay; every other, a timeout's and a panic's too, leaves a doubt.
answer() {
    case $1 in
        [0-4]) echo "$1" ;;
        *) echo 4 ;;
    esac
}

worst() {
    local code
    for code in 1 4 3 2 0; do
        [[ " $* " != *" $code "* ]] || { echo $code; return; }
    done
    echo 4
}

record() { # record NAME STATUS CODE SECONDS
    printf '{"step":"%s","status":"%s","exit_code":%s,"seconds":%s,"log":"%s.log"}\n' \
        "$1" "$2" "$3" "$4" "$1" >> "$out/nightly.jsonl"
    printf '   %-12s %s, %s s\n' "$1" "$2" "$4"
    codes+=("$3")
}

# step NAME MINUTES: the function of that name, in a shell of its own. A night without one of its
# steps is no success, so one that is not run leaves a doubt.
step() {
    local name=$1 start=$SECONDS code status words shown why="no time was left"
    step_end=$((SECONDS + $2 * 60))
    echo "== $name"
    [ "$interrupted" = 0 ] || why="the night was interrupted"
    if [ "$interrupted" = 1 ] || [ "$SECONDS" -ge "$deadline" ]; then
        echo "not run: $why" > "$out/$name.log"
        record "$name" "not run" 4 0
        return
    fi
    [ "$step_end" -le "$deadline" ] || step_end=$deadline
    # Last words are shown, too: tee ends when the step has closed its end.
    exec {words}> >(trap '' INT TERM; exec tee "$out/$name.log" 8>&- 9>&-)
    shown=$!
    (
        job=''
        trap interrupt INT TERM
        "night_$name"
    ) >&"$words" 2>&1 {words}>&- 8>&- 9>&- &
    job=$!
    exec {words}>&-
    await
    code=$(answer $?)
    wait "$shown"
    [ "$interrupted" = 0 ] || [ "$code" != 0 ] || code=4
    case $code in
        0) status=ok ;;
        1) status=fails ;;
        2) status="bad input" ;;
        3) status=device ;;
        4) status=inconclusive ;;
    esac
    [ "$SECONDS" -lt "$step_end" ] || [ "$code" != 4 ] || status="time limit"
    [ "$interrupted" = 0 ] || [ "$code" != 4 ] || status="interrupted"
    record "$name" "$status" "$code" $((SECONDS - start))
}

night_build() {
    [ -z "${LOCKSTEP_BINARY:-}" ] || { echo "given: LOCKSTEP_BINARY"; return; }
    limited cargo build --locked --release -p harness --bin lockstep || return 4
}

night_environment() {
    # Its helper's codes are no answers: whatever ends it says nothing of the card.
    limited python3 ci/environment.py "$lockstep" "$device" > "$out/environment.json" || return 4
    # The device itself has to be there; what else is missing is only recorded.
    limited "$lockstep" run --device "$device" --max-tokens 1 --quiet
}

night_models() {
    [ "$quick" = 0 ] || { echo "the embedded model only"; return; }
    local all=()
    limited "$lockstep" fetch "$small"
    all+=("$(answer $?)")
    if [ "$models" = all ]; then
        limited "$lockstep" fetch "$large"
        all+=("$(answer $?)")
    fi
    return "$(worst "${all[@]}")"
}

# A run flips a bit of its own comparison; a search has to find one flipped in a weight. Where that
# is not seen, no other step of this night says anything.
night_canary() {
    mkdir -p "$out/canary"
    limited "$lockstep" run --device "$device" --max-tokens 4 --quiet --out "$out/canary/run" \
        || return
    limited "$lockstep" find --device "$device" --max-tokens 4 --plant F39 \
        --out "$out/canary/find" > "$out/canary/find.txt"
    local code=$?
    cat "$out/canary/find.txt"
    local due="on the device is not the file's"
    if [ "$code" != 1 ] || ! grep --quiet "$due" "$out/canary/find.txt"; then
        echo "the planted bit was not found: this night could not have turned red"
        return 4
    fi
    echo "the planted bit was found, as it has to be"
}

night_operations() {
    local test=(cargo test --locked --release -p harness --test operations) some=()
    [ "$quick" = 0 ] || some=(rms_norm rope swiglu embed)
    limited "${test[@]}" --no-run || return 4
    LOCKSTEP_DEVICE=$device LOCKSTEP_CASES_SEED=$(date -u +%Y%m%d) LOCKSTEP_CASES_KEEP=0 \
        limited "${test[@]}" -- "${some[@]}"
    local code=$?
    # The test runner's word for a case that differs.
    [ "$code" != 101 ] || return 1
    return "$code"
}

# Every fault that can be planted on this device: caught, placed, explained.
night_faults() {
    local only=()
    [ "$quick" = 0 ] || only=(--only "F08,F09,F39")
    limited "$lockstep" faults --device "$device" --out "$out/faults" "${only[@]}"
}

night_suite() {
    local file=fixtures/suites/quick.toml options=()
    if [ "$quick" = 0 ]; then
        [ "$models" = all ] && file=fixtures/suites/nightly.toml || file=fixtures/suites/host.toml
        # What the reference computes for a model and a prompt is computed once.
        options=(--record "$state/recorded" --against "$state/recorded")
    fi
    local left=$(((step_end - SECONDS) / 60))
    left=$((left > 2 ? left - 1 : 1))
    limited "$lockstep" suite "$file" --device "$device" --seed date --out "$out/suite" \
        --budget-minutes "$left" "${options[@]}" || return
    # A case that the budget left out does not change the suite's own answer. A night promises all.
    limited python3 ci/whole.py "$out/suite/suite.json" || return 4
}

night_performance() {
    local names=("$small") all=() name
    [ "$models" = small ] || names+=("$large")
    [ "$quick" = 0 ] || names=(tiny)
    for name in "${names[@]}"; do
        limited "$lockstep" bench --model "$name" --device "$device" --parts engine \
            --history "$history" --runner "${RUNNER_NAME:-$(uname -n)}" --night "$(date -u +%F)"
        all+=("$(answer $?)")
    done
    return "$(worst "${all[@]}")"
}

night_report() {
    limited "$lockstep" report "$out/suite"
}

step build 60
step environment 5
step models 30
step canary 10
step operations 45
step faults 45
step suite 150
step performance 30
# What was found is written down whatever the time.
deadline=$((SECONDS + 600))
step report 5

code=$(worst "${codes[@]}")
# An interrupted night is summed up all the same.
interrupted=0
step_end=$((SECONDS + 60))
limited python3 ci/summary.py "$out" "$code" > "$out/summary.md" || code=$(worst "$code" 4)
[ -z "$job_summary" ] || cat "$out/summary.md" >> "$job_summary"
# The reference's recorded rows are no artifact; everything else is.
tar --create --gzip --file "$out.tar.gz" --directory "$(dirname "$out")" "$(basename "$out")"
cat "$out/summary.md"
echo "written: $out, $out.tar.gz; exit code $code after $((SECONDS - begin)) s"
exit "$code"
