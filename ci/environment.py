"""What a night ran on, as JSON: commit, system, drivers, firmware, devices, hashes of models.

Usage: environment.py LOCKSTEP DEVICE. What is missing is recorded as absent and is no failure;
serial numbers and paths are left out.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

SECONDS_MAX = 30
TEXT_MAX = 20_000


def command(*words):
    """What a command says: its lines, or why there are none."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS_MAX,
            check=False,
        )
    except FileNotFoundError:
        return {"status": "absent"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"status": "failed", "reason": type(error).__name__}
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip())[-500:]
        return {"status": "failed", "exit_code": done.returncode, "reason": reason}
    return {"status": "ok", "lines": whole_lines(done.stdout)}


def whole_lines(words):
    """The lines that fit, none of them cut: one that ends in its middle is another one."""
    kept, left = [], TEXT_MAX
    for line in words.strip().splitlines():
        left -= len(line)
        if left < 0:
            break
        kept.append(line)
    return kept


def text(path):
    """A small file's text, or None."""
    try:
        return Path(path).read_text(errors="replace")[:TEXT_MAX].strip()
    except OSError:
        return None


def first(answer):
    """The first line of a command that worked, or its status."""
    lines = answer.get("lines")
    return lines[0] if lines else answer["status"]


def commit():
    """The commit and whether the tree differs from it."""
    changed = command("git", "status", "--porcelain", "--untracked-files=no")
    dirty = bool(changed["lines"]) if changed["status"] == "ok" else None
    return {"commit": first(command("git", "rev-parse", "HEAD")), "dirty": dirty}


def processor():
    """The CPU's name and how many there are."""
    lines = (text("/proc/cpuinfo") or "").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = (text("/proc/meminfo") or "absent").splitlines()[0]
    return {"name": names[0] if names else "absent", "count": os.cpu_count(), "memory": memory}


def system():
    """The operating system and the tools that built this."""
    release = (text("/etc/os-release") or "").splitlines()
    pretty = [line for line in release if line.startswith("PRETTY_NAME=")]
    names = [line.split("=", 1)[1].strip('"') for line in pretty]
    return {
        "name": names[0] if names else "absent",
        "kernel": platform.release(),
        "rustc": first(command("rustc", "--version")),
        "compiler": first(command("c++", "--version")),
    }


def cards():
    """What the kernel's driver says of each card: its version and every firmware's."""
    found = []
    for card in sorted(Path("/sys/class/drm").glob("card[0-9]*")):
        device = card / "device"
        if "-" in card.name or not device.exists():
            continue
        firmware = sorted(device.glob("fw_version/*"))
        found.append(
            {
                "card": card.name,
                "driver": (device / "driver").resolve().name,
                "vendor": text(device / "vendor"),
                "device": text(device / "device"),
                "vbios": text(device / "vbios_version"),
                "firmware": {file.name: text(file) for file in firmware},
            }
        )
    return found


def amd():
    """ROCm, its driver, its tools' own words."""
    return {
        "rocm": text("/opt/rocm/.info/version") or "absent",
        "amdgpu": text("/sys/module/amdgpu/version") or "absent",
        "amd_smi_version": command("amd-smi", "version"),
        "amd_smi_firmware": command("amd-smi", "firmware"),
        "rocm_smi_driver": command("rocm-smi", "--showdriverversion"),
        "rocm_smi_firmware": command("rocm-smi", "--showfwinfo"),
    }


def nvidia():
    """The driver of NVIDIA and its cards."""
    fields = "name,driver_version,vbios_version,memory.total,ecc.mode.current,mig.mode.current"
    return {"nvidia_smi": command("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")}


def devices(lockstep, asked):
    """What lockstep itself says of its devices, and which of them this night is about."""
    answer = command(lockstep, "devices", "--format", "json")
    if answer["status"] != "ok":
        return answer
    card = f"{asked}:0" if asked in ("hip", "cuda") else asked
    try:
        found = [json.loads(line) for line in answer["lines"]]
        return [{**device, "asked": device["device"] == card} for device in found]
    except (ValueError, TypeError, KeyError) as error:
        return {"status": "failed", "reason": f"no JSON lines of devices: {error}"}


def fingerprint(path):
    """A file's size and hash, or why there are none."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    except OSError as error:
        return {"status": "failed", "reason": type(error).__name__}


def models():
    """Every model file in the cache with its hash, by its name below the cache's folder."""
    cache = os.environ.get("LOCKSTEP_CACHE")
    if not cache:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        cache = os.path.join(home, "lockstep")
    folder = Path(cache)
    files = sorted([*folder.glob("*.gguf"), *folder.glob("*/*.gguf")])
    return {file.relative_to(folder).as_posix(): fingerprint(file) for file in files}


def main():
    lockstep, device = sys.argv[1:]
    night = {
        "device": device,
        "lockstep": first(command(lockstep, "--version")),
        **commit(),
        "system": system(),
        "processor": processor(),
        "devices": devices(lockstep, device),
        "cards": cards(),
        "amd": amd(),
        "nvidia": nvidia(),
        "models": models(),
    }
    json.dump(night, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
