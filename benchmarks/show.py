#!/usr/bin/env python3
"""Lists what was measured: every JSON file below benchmarks/results, with its device, date, source revision and main figures.

    python3 benchmarks/show.py

What was measured on a GPU is STALE where src/kernels has changed since its revision.
"""
import glob
import json
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def age(revision):
    """What src/kernels has become since a revision: empty where it is as it was."""
    commit = revision.removesuffix("-changed")
    newer = subprocess.run(["git", "-C", ROOT, "rev-list", "--max-count=1", "HEAD", "^" + commit, "--", "src/kernels"],
                           capture_output=True, text=True)
    if newer.returncode:
        return "STALE: its revision is not in this repository"
    if newer.stdout:
        return f"STALE: src/kernels has changed since, last in {newer.stdout[:10]}"
    return "STALE: measured on changed sources that were never committed" if commit != revision else ""


def figures(result):
    """(what, seconds a step, characters written a second) of each program of a comparison, or of each `bench` of a proof on hardware."""
    for name, entry in result.get("contenders", {}).items():
        yield name, entry["step_seconds"]["median"], entry["sample_chars_per_second"]["median"]
    for name, entry in result.get("benches", {}).items():
        yield name, entry["step_seconds"], entry["sample_chars_per_second"]
    if "compare" in result:
        yield from figures(result["compare"])


def show(path):
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    device, revision = result.get("machine") or result["gpu"], result.get("revision", "")
    print(f"{os.path.relpath(path, HERE)}: {device}; {result.get('date', 'no date')}; revision {revision or 'not recorded'}")
    stale = age(revision) if result.get("device") == "cuda" or "gpu" in result else ""
    if stale:
        print(f"  {stale}")
    for name, step, writing in figures(result):
        print(f"  {name:24} {step * 1e3:10.3f} ms a step {writing:12.0f} characters written/s")


def main():
    for path in sorted(glob.glob(os.path.join(HERE, "results", "*", "**", "*.json"), recursive=True)):
        show(path)


if __name__ == "__main__":
    main()
