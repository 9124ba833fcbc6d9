"""A night in Markdown, from the files that its steps left: `summary.py DIR EXIT_CODE`."""

import json
import re
import sys
from pathlib import Path

LINES_MAX = 30
VERDICTS = {
    0: "green",
    1: "**red: something differs, or is slower**",
    2: "**red: bad input**",
    3: "**red: the device is missing or failed**",
    4: "**inconclusive: that is no success**",
}
NEXT = {
    "build": "the build failed; nothing else says anything",
    "environment": "`lockstep devices` says what is missing and what to do about it",
    "models": "`ci/README.md` says where a model comes from",
    "canary": "a planted fault was not seen, or the sides differ on the embedded model",
    "operations": "the log names operation, case and seed; the same command repeats it",
    "faults": "a planted fault was not caught, placed or explained",
    "suite": "each case that diverges has a line that repeats it, and a witness",
    "performance": "slower than on the nights before: compare environment.json with a green night's",
    "report": "the files are there all the same",
}


def lines_of(path):
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def objects(path):
    """The JSON lines of a file; a line that a killed night cut off is left out."""
    found = []
    for line in lines_of(path):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def fenced(lines):
    """Lines as code; nothing in them is Markdown, and nothing in them ends the block."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *lines, fence]


def environment(folder):
    try:
        night = json.loads((folder / "environment.json").read_text())
    except (OSError, json.JSONDecodeError):
        return ["No environment was recorded."]
    tree = " with changes" if night["dirty"] else ""
    said = [
        f"- commit `{night['commit']}`{tree}, {night['lockstep']}",
        f"- {night['system']['name']}, kernel {night['system']['kernel']},"
        f" {night['processor']['name']} x {night['processor']['count']}",
        f"- ROCm {night['amd']['rocm']}, amdgpu {night['amd']['amdgpu']}",
    ]
    # What a driver or a folder calls itself is anything, so that is no Markdown.
    listed = night["devices"] if isinstance(night["devices"], list) else []
    words = [f"asked: {night['device']}"]
    if not any(device["asked"] for device in listed):
        words.append("  which `lockstep devices` does not list: the others say nothing of it")
    for device in listed:
        mark = "*" if device["asked"] else " "
        if device["state"] == "ready":
            versions = ", ".join(device["versions"])
            words.append(
                f"{mark} {device['device']}: {device['name']}, kernels {device['kernels']},"
                f" {versions}, {device['operations_probed']} operations probed"
            )
        else:
            words.append(f"{mark} {device['device']}: {device['state']}: {device['reason']}")
    for name, model in night["models"].items():
        known = "sha256" in model
        what = f"{model['bytes']} bytes, SHA-256 {model['sha256']}" if known else model["reason"]
        words.append(f"{name}: {what}")
    # A name with a line break in it would begin a line of its own.
    return [*said, "", *fenced([" ".join(line.splitlines()) for line in words])]


def main():
    folder, code = Path(sys.argv[1]), int(sys.argv[2])
    steps = objects(folder / "nightly.jsonl")
    print(f"# Night: {VERDICTS[code]}\n")
    print("| step | answer | seconds |\n|---|---|---:|")
    for step in steps:
        print(f"| {step['step']} | {step['status']} | {step['seconds']} |")
    for step in steps:
        if step["status"] == "ok":
            continue
        print(f"\n## {step['step']}: {step['status']}\n\n{NEXT[step['step']]}\n")
        print("\n".join(fenced(lines_of(folder / step["log"])[-LINES_MAX:])))
    for name, title in [("suite", "Suite"), ("performance", "Speed")]:
        last = lines_of(folder / f"{name}.log")
        told = [line for line in last if re.search("Summary|tok/s[,:]", line)]
        if told:
            print(f"\n## {title}\n")
            print("\n".join(fenced(told)))
    print("\n## Environment\n")
    print("\n".join(environment(folder)))


if __name__ == "__main__":
    main()
