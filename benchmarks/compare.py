#!/usr/bin/env python3
"""Times crnn-gpu beside the frameworks that are installed for this Python: the same shape, the same threads, in turn.

Before anything is timed, each peer starts from crnn-gpu's own initial weights and takes a step on the same text; its loss, its
gradients and the loss of the step after, which depends on the state carried over, must agree. What does not agree is not timed.

    python3 benchmarks/compare.py --program build/crnn-gpu --out result.json

Every program runs by itself in each round, and the file is written after each, so that what ends early keeps what it has measured. --add adds
rounds to an existing file of the same shape and versions. A peer that fails here (no GPU for it, a mode it cannot run) is named and left out.
"""
import argparse
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "peers"))
from peer import read_safetensors  # noqa: E402

# name: the module it needs, its program, and what it can run on each kind of device: the arithmetic, which is also the --precision it is
# held against, and after a dash how it is run.
PEERS = {
    "pytorch": ("torch", "with_pytorch.py", {
        "cpu": ["fp32", "bf16"],
        "cuda": [precision + mode for precision in ("fp32", "tf32", "bf16") for mode in ("", "-graph", "-compile")]}),
    "keras": ("tensorflow", "with_keras.py", {"cpu": ["fp32"]}),
    "jax": ("jax", "with_jax.py", {"cpu": ["fp32"], "cuda": ["fp32", "tf32", "bf16"]}),
}
EPOCH_STEPS = 206  # of the notebook
SIZES = {"vocab": 83, "embedding": 256, "units": 1024, "layers": 1, "batch": 64, "length": 100}

# Two float32 programs sum in different orders: either is within 1e-6 of the exact result (crnn-gpu's golden test), so 1e-5 leaves a
# peer some room and still finds any formula that differs. bfloat16 has 8 bits: each product is off by up to 4e-3, a gradient by the
# sum of many. TF32 has 11, so that an eighth of that is allowed.
TOLERANCE = {"fp32": {"loss": 1e-5, "gradient": 1e-5}, "tf32": {"loss": 2.5e-4, "gradient": 6e-3}, "bf16": {"loss": 2e-3, "gradient": 5e-2}}


class Failed(Exception):
    """A program ended with an error; its text says all."""


class Disagrees(Failed):
    """A peer ran, and computed something else."""


def run(command):
    """Standard output of a command."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{shlex.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def precision_of(variant):
    return variant.partition("-")[0]


def installed(wanted, device):
    """(peer, variant) of what can run here."""
    for name, (module, _, variants) in PEERS.items():
        if name not in wanted:
            continue
        if importlib.util.find_spec(module) is None:
            print(f"{name}: {module} is not installed for {sys.executable}", file=sys.stderr)
            continue
        for variant in variants.get(device, []):
            yield name, variant


def options_of(arguments, names):
    return [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]


def ours(arguments, precision):
    return [arguments.program, "bench", "--json", *options_of(arguments, SIZES), "--device", arguments.device, "--precision",
            precision, "--threads", str(arguments.threads), "--steps", str(arguments.steps), "--sample-length",
            str(arguments.sample_length), "--texts", str(arguments.texts)]


def theirs(arguments, name, variant, more):
    shape = {size: getattr(arguments, size) for size in SIZES}
    shape |= {"threads": arguments.threads, "device": arguments.device, "variant": variant}
    return [sys.executable, os.path.join(HERE, "peers", PEERS[name][1]), "--shape", json.dumps(shape), *more]


# --- agreement -----------------------------------------------------------------------------------------------------------


def our_steps(arguments, folder):
    """Two steps of `crnn-gpu train` on a random text: paths of the weights before each, the ids, the losses, the gradients."""
    random = np.random.default_rng(2)
    ids = random.integers(0, arguments.vocab, arguments.batch * arguments.length * 2 + 1)
    ids[: arguments.vocab] = np.arange(arguments.vocab)[: len(ids)]  # so that the vocabulary is the whole one
    text, run_folder = os.path.join(folder, "text"), os.path.join(folder, "run")
    with open(text, "w", encoding="utf-8") as file:
        file.write("".join(chr(0x10000 + i) for i in ids))  # code points that are ordinary characters, in order of their ids
    run([arguments.program, "train", "--out", run_folder, *options_of(arguments, list(SIZES)[1:]), "--val-split", "0",
         "--max-steps", "2", "--checkpoint-steps", "1", "--keep", "all", "--device", arguments.device, "--threads",
         str(arguments.threads), text])
    with open(os.path.join(run_folder, "history.jsonl"), encoding="utf-8") as file:
        losses = [event["loss"] for event in map(json.loads, file) if event["event"] == "step"]
    paths = [os.path.join(run_folder, "checkpoints", f"ckpt-{step:010d}.safetensors") for step in range(2)]
    # After one update from zero, Adam's m is (1 - 0.9) of the gradient.
    moments = read_safetensors(paths[1])
    gradients = {name[len("adam.m/"):]: m / np.float32(0.1) for name, m in moments.items() if name.startswith("adam.m/")}
    id_file = os.path.join(folder, "ids.npy")
    np.save(id_file, ids)
    return {"paths": paths, "ids": id_file, "losses": losses, "gradients": gradients}


def agreement(arguments, name, variant, reference, folder):
    """Largest relative errors of a peer against our float32 steps; Disagrees where they are beyond tolerance."""
    out = os.path.join(folder, f"{name}-{variant}.npz")
    result = json.loads(run(theirs(arguments, name, variant, ["--follow", *reference["paths"], reference["ids"], out])))
    found = np.load(out)
    error = {"loss": max(abs(a - b) / b for a, b in zip(result["losses"], reference["losses"])), "gradient": 0.0}
    for tensor, wanted in reference["gradients"].items():
        difference = np.linalg.norm(found[tensor].astype(np.float64) - wanted) / np.linalg.norm(wanted)
        error["gradient"] = max(error["gradient"], float(difference))
    bound = TOLERANCE[precision_of(variant)]
    print(f"{name} {variant}: losses agree to {error['loss']:.1e}, gradients to {error['gradient']:.1e} "
          f"(allowed {bound['loss']:.0e}, {bound['gradient']:.0e})", file=sys.stderr)
    if not all(error[kind] <= bound[kind] for kind in bound):
        raise Disagrees(f"{name} {variant} does not compute what crnn-gpu computes: nothing to compare")
    return error


def leave_out(result, name, variant, problem):
    reason = str(problem).strip().rsplit("\n", 1)[-1]
    print(f"{name} {variant} is left out: {reason}", file=sys.stderr)
    result.setdefault("left_out", {})[f"{name} {variant}"] = reason


def agreeing(arguments, peers, result):
    """Those of peers that run here and compute what crnn-gpu computes, and whether one computes something else."""
    found, disagree = [], False
    with tempfile.TemporaryDirectory() as folder:
        reference = our_steps(arguments, folder)
        for name, variant in peers:
            try:
                result["agreement"][f"{name} {variant}"] = agreement(arguments, name, variant, reference, folder)
                found.append((name, variant))
            except Failed as problem:
                leave_out(result, name, variant, problem)
                disagree = disagree or isinstance(problem, Disagrees)
    return found, disagree


# --- rounds --------------------------------------------------------------------------------------------------------------


AT_ONCE = {"cpu": 1, "cuda": 64}  # steps of a peer between two reads of losses; ours are as many as take 50 ms
FIGURES = ["step_seconds", "eval_seconds", "sample_chars_per_second", "texts_chars_per_second", "peak_memory_bytes",
           "peak_reserved_bytes", "flop_rate", "peak_flop_rate"]


def measure(arguments, contenders, result):
    """Every contender once a round, one after the other, so that a machine that slows down slows all of them."""
    more = ["--steps", str(arguments.steps), "--at-once", str(AT_ONCE[arguments.device]), "--sample-length",
            str(arguments.sample_length), "--texts", str(arguments.texts)]
    for round_number in range(arguments.rounds):
        for name, variant in list(contenders):
            command = ours(arguments, variant) if name == "crnn-gpu" else theirs(arguments, name, variant, more)
            print(f"round {round_number + 1} of {arguments.rounds}: {name} {variant}", file=sys.stderr)
            try:
                report = json.loads(run(command))
            except Failed as problem:
                if name == "crnn-gpu":
                    raise
                leave_out(result, name, variant, problem)
                contenders.remove((name, variant))
                continue
            entry = result["contenders"].setdefault(f"{name} {variant}", {"rounds": []})
            versions = report["versions"]
            if entry.setdefault("versions", versions) != versions:
                sys.exit(f"{name}: the file holds rounds of {entry['versions']}, this is {versions}")
            if report.get("rnn", {}).get("candidates"):  # how the recurrent layers are computed, and what else was tried
                entry["rnn"] = report["rnn"]
            entry["rounds"].append({key: report[key] for key in FIGURES if key in report})
            entry["command"] = shlex.join(command).replace(HERE, "benchmarks").replace(sys.executable, "python3")
            keep(arguments, result)


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summarize(result):
    for entry in result["contenders"].values():
        for key in entry["rounds"][0]:
            entry[key] = summary([r[key] for r in entry["rounds"]])
        entry["epoch_seconds"] = summary([EPOCH_STEPS * r["step_seconds"] for r in entry["rounds"]])
        if "flop_rate" in entry:
            entry["share_of_peak"] = summary([r["flop_rate"] / r["peak_flop_rate"] for r in entry["rounds"]])
    result["ratios"] = {}
    for name, entry in result["contenders"].items():
        own = result["contenders"].get("crnn-gpu " + precision_of(name.split()[1]))
        if own and own is not entry:
            result["ratios"][name] = {
                "step": entry["step_seconds"]["median"] / own["step_seconds"]["median"],
                "step_least": entry["step_seconds"]["least"] / own["step_seconds"]["least"],
                "evaluation": entry["eval_seconds"]["median"] / own["eval_seconds"]["median"],
                "sampling": own["sample_chars_per_second"]["median"] / max(entry["sample_chars_per_second"]["median"], 1e-9),
                "memory": entry["peak_memory_bytes"]["median"] / own["peak_memory_bytes"]["median"],
            }
            if "texts_chars_per_second" in own and "texts_chars_per_second" in entry:
                result["ratios"][name]["texts"] = (own["texts_chars_per_second"]["median"] /
                                                   max(entry["texts_chars_per_second"]["median"], 1e-9))


def keep(arguments, result):
    """Writes the file of --out whole or not at all."""
    summarize(result)
    if not arguments.out:
        return
    with open(arguments.out + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(arguments.out + ".new", arguments.out)


def spread(figure, scale, digits):
    return " ".join(f"{figure[key] * scale:.{digits}f}" for key in ("median", "least", "most"))


def print_table(result):
    shape = ", ".join(f"{name} {size}" for name, size in result["shape"].items())
    print(f"\n{result['machine']}, {result['threads']} threads; {shape}")
    print(f"{len(next(iter(result['contenders'].values()))['rounds'])} rounds; median, least, most\n")
    print(f"{'':20} {'step, ms':>22} {'epoch, s':>9} {'evaluation, ms':>14} {'characters written/s':>24} {str(result['texts']) + ' texts':>12} "
          f"{'peak MiB':>9} {'share of peak':>14}")
    digits = 0 if result["device"] == "cpu" else 3
    for name, entry in result["contenders"].items():
        share = f"{entry['share_of_peak']['median']:14.0%}" if "share_of_peak" in entry else ""
        texts = entry.get("texts_chars_per_second", {"median": float("nan")})["median"]
        print(f"{name:20} {spread(entry['step_seconds'], 1e3, digits):>22} {entry['epoch_seconds']['median']:9.2f} "
              f"{entry['eval_seconds']['median'] * 1e3:14.{digits}f} {spread(entry['sample_chars_per_second'], 1, 0):>24} {texts:12.0f} "
              f"{entry['peak_memory_bytes']['median'] / 2**20:9.0f} {share}")
    print()
    for name, ratio in result["ratios"].items():
        several = f" ({ratio['texts']:.1f}x {result['texts']} texts)" if "texts" in ratio else ""
        print(f"crnn-gpu against {name}: training {ratio['step']:.2f}x as fast "
              f"({ratio['step_least']:.2f}x by the least times), evaluation {ratio['evaluation']:.2f}x, "
              f"writing {ratio['sampling']:.1f}x{several}, memory 1/{ratio['memory']:.1f}")


def said(*command):
    """What a command prints, or nothing where it cannot."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(device):
    if device == "cuda":
        gpus = said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").splitlines()
        return gpus[0].replace(", ", ", driver ") if gpus else platform.node()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.processor())


def revision(program):
    """Of the sources: what the bundle that holds the program says, else the repository that holds this file."""
    path = os.path.join(os.path.dirname(os.path.abspath(program)), "REVISION")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    changed = "-changed" if said("git", "-C", HERE, "status", "--porcelain", "--untracked-files=no") else ""
    return (said("git", "-C", HERE, "rev-parse", "HEAD") or "unknown") + changed


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--program", default="build/crnn-gpu", help="the crnn-gpu to time (build/crnn-gpu)")
    parser.add_argument("--peers", default=",".join(PEERS), help="which of them, by comma (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each program in each round (%(default)s)")
    parser.add_argument("--sample-length", type=int, default=200, help="characters written in each round (%(default)s)")
    parser.add_argument("--texts", type=int, default=64, help="also so many texts written at once (%(default)s)")
    parser.add_argument("--out", help="a JSON file with every round, versions and commands")
    parser.add_argument("--add", action="store_true", help="add the rounds to those in the file")
    for size, default in SIZES.items():
        parser.add_argument(f"--{size}", type=int, default=default)
    arguments = parser.parse_args()
    if arguments.batch * arguments.length * 2 + 1 < arguments.vocab:
        parser.error("two steps of this shape do not hold every character of the vocabulary")
    return arguments


def new_result(arguments):
    """What a file says before the first round; the added rounds must share all but the command and the date."""
    return {"command": "python3 " + shlex.join(sys.argv), "date": time.strftime("%Y-%m-%d", time.gmtime()), "revision": revision(arguments.program),
            "device": arguments.device, "machine": machine(arguments.device),
            "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}", "python": platform.python_version(),
            "threads": arguments.threads, "texts": arguments.texts, "shape": {size: getattr(arguments, size) for size in SIZES},
            "agreement": {}, "contenders": {}}


def earlier_result(arguments, result):
    """The file of --out, to which rounds are added."""
    with open(arguments.out, encoding="utf-8") as file:
        earlier = json.load(file)
    for key in ("revision", "device", "machine", "system", "threads", "texts", "shape"):
        if earlier.get(key) != result[key]:
            sys.exit(f"{arguments.out} is about another {key}: {earlier.get(key)}")
    return earlier


def main():
    arguments = parse()
    result = new_result(arguments)
    if arguments.add:
        result = earlier_result(arguments, result)
    peers, disagree = agreeing(arguments, installed(arguments.peers.split(","), arguments.device), result)
    precisions = list(dict.fromkeys(["fp32"] + [precision_of(variant) for _, variant in peers]))
    measure(arguments, [("crnn-gpu", precision) for precision in precisions] + peers, result)
    keep(arguments, result)  # also what was left out after the last figure
    print_table(result)
    if disagree:
        sys.exit("a peer does not compute what crnn-gpu computes; see above")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
