"""What the peers share: the shape and the batch they train on, the timing, and the JSON that `crnn-gpu bench --json` prints too.

A peer is a class with
    versions                    text: what it is built on
    load(tensors)               takes canonical tensors, {name: float32 array}
    step(x, y) -> loss          one whole training step on ids x, y [B,T]; the hidden state is carried to the next one
    gradients() -> tensors      of the last step, in canonical form
    sample(length)              writes one text of so many characters, one at a time, each fed back with the state
Its constructor takes a Shape. It is run as a program of its own, so that its peak memory is its own.
"""
import argparse
import json
import resource
import statistics
import time
from dataclasses import dataclass

import numpy as np


@dataclass
class Shape:
    vocab: int
    embedding: int
    units: int
    layers: int
    batch: int
    length: int
    threads: int
    device: str
    variant: str


def read_safetensors(path):
    """{name: array} of the F32 tensors of a file; a few lines, so that a peer needs no package for it."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__" and info["dtype"] == "F32":
            begin, end = info["data_offsets"]
            tensors[name] = np.frombuffer(data[begin:end], np.float32).reshape(info["shape"])
    return tensors


def layer_name(layer):
    return "gru" if layer == 0 else f"gru_{layer}"


def swap_gates(a):
    """Canonical z, r, h along the last axis to r, z, h of PyTorch and cuDNN, or back."""
    z, r, h = np.split(a, 3, axis=-1)
    return np.concatenate([r, z, h], axis=-1)


def measure(peer, shape, steps, sample_length):
    random = np.random.default_rng(1)
    x, y = random.integers(0, shape.vocab, (2, shape.batch, shape.length))
    for _ in range(2):  # warm up
        peer.step(x, y)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        peer.step(x, y)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the model that samples counts in
    rate = 0.0
    if sample_length:
        peer.sample(sample_length // 5)  # warm up
        begin = time.perf_counter()
        peer.sample(sample_length)
        rate = sample_length / (time.perf_counter() - begin)
    return {"step_seconds": statistics.median(seconds), "sample_chars_per_second": rate, "peak_memory_bytes": peak,
            "versions": peer.versions}


def follow(peer, shape, weights, next_weights, ids, out):
    """Two steps over the streams of a text: the loss and gradients of the first, and the loss of the second from given weights,
    which says that the hidden state was carried over as ours was."""
    stream = (len(ids) - 1) // shape.batch
    losses = []
    for step, path in enumerate([weights, next_weights]):
        peer.load(read_safetensors(path))
        starts = np.arange(shape.batch)[:, None] * stream + step * shape.length + np.arange(shape.length)[None, :]
        losses.append(peer.step(ids[starts], ids[starts + 1]))
        if step == 0:
            np.savez(out, **peer.gradients())
    return {"losses": losses}


def main(peer_class):
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=json.loads, required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--sample-length", type=int, default=200)
    parser.add_argument("--follow", nargs=4, metavar=("WEIGHTS", "NEXT", "IDS", "OUT"))
    arguments = parser.parse_args()
    shape = Shape(**arguments.shape)
    peer = peer_class(shape)
    if arguments.follow:
        weights, next_weights, ids, out = arguments.follow
        result = follow(peer, shape, weights, next_weights, np.load(ids), out)
    else:
        result = measure(peer, shape, arguments.steps, arguments.sample_length)
    print(json.dumps(result))
