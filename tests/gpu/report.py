#!/usr/bin/env python3
"""Puts together what prove.sh left in a folder: proof.json for programs, proof.txt for people. Ends with 1 where a check failed."""
import json
import os
import subprocess
import sys
import time


def said(*command):
    """Standard output of a command, or why there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as problem:
        return f"unknown: {problem}"


def revision(root):
    path = os.path.join(root, "REVISION")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return said("git", "-C", root, "rev-parse", "HEAD")


def checks(folder):
    with open(os.path.join(folder, "results.tsv"), encoding="utf-8") as file:
        for line in file:
            name, status, began, ended = line.split("\t")
            outcome = {0: "passed", 77: "skipped", 124: "timed out"}.get(int(status), "failed")
            yield {"name": name, "outcome": outcome, "status": int(status), "seconds": float(ended) - float(began)}


def load(path):
    """The JSON of a log, or None where it holds something else."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.loads(next(line for line in file if line.startswith("{")))
    except (OSError, StopIteration, ValueError):
        return None


def whole(path):
    """What a log says; nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def benches(folder, names):
    for name in names:
        report = load(os.path.join(folder, "logs", name + ".txt")) if name.startswith(("bench-", "ways-")) else None
        if report:
            yield name, report


def table(proof):
    lines = [f"{proof['gpu']}; {proof['toolkit']}; revision {proof['revision']}; {proof['date']}", ""]
    lines += [f"{c['outcome']:10} {c['seconds']:7.1f} s  {c['name']}" for c in proof["checks"]]
    lines += ["", f"{'':24} {'step, ms':>9} {'chars/s':>12} {'share of peak':>14} {'MiB':>7}"]
    for name, b in proof["benches"].items():
        share = b["flop_rate"] / b["peak_flop_rate"] if b.get("peak_flop_rate") else float("nan")
        lines.append(f"{name:24} {b['step_seconds'] * 1e3:9.3f} {b['chars_per_second']:12.0f} {share:14.0%} "
                     f"{b['peak_memory_bytes'] / 2**20:7.0f}")
    for name, b in proof["benches"].items():
        candidates = b.get("rnn", {}).get("candidates")
        if candidates:
            lines += ["", f"{name}: {b['rnn']['algo']}, {b['rnn']['reason']}"]
            lines += [f"    {c['name']:22} " + (f"no: {c['why_not']}" if c["why_not"] else
                      f"forward {c['forward_seconds'] * 1e3:8.3f} ms, backward {c['backward_seconds'] * 1e3:8.3f}, differs by {c['difference']:.1e}")
                      for c in candidates]
    lines += ["", proof["exchange"]]
    for name, ratio in (proof.get("compare") or {}).get("ratios", {}).items():
        figures = ", ".join(f"{kind} {value:.2f}x" for kind, value in ratio.items())
        lines.append(f"against {name}: {figures}")
    return "\n".join(lines) + "\n"


def main():
    folder, root = sys.argv[1:3]
    results = list(checks(folder))
    proof = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "revision": revision(root),
        "gpu": said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "toolkit": said("nvcc", "--version").splitlines()[-1],
        "devices": open(os.path.join(folder, "devices.txt"), encoding="utf-8").read().splitlines(),
        "checks": results,
        "benches": dict(benches(folder, [c["name"] for c in results])),
        "exchange": whole(os.path.join(folder, "logs", "exchange.txt")),
    }
    compared = os.path.join(folder, "compare.json")
    if os.path.exists(compared):
        with open(compared, encoding="utf-8") as file:
            proof["compare"] = json.load(file)
    with open(os.path.join(folder, "proof.json"), "w", encoding="utf-8") as file:
        json.dump(proof, file, indent=1)
        file.write("\n")
    text = table(proof)
    with open(os.path.join(folder, "proof.txt"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text, end="")
    sys.exit(any(c["outcome"] not in ("passed", "skipped") for c in results))


if __name__ == "__main__":
    main()
