"""What the peers share: the shape and the batch they train on, the timing, and the JSON that `crnn-gpu bench --json` prints too.

A peer is a class, derived from Peer, with
    versions                    text: what it is built on
    load(tensors)               takes canonical tensors, {name: float32 array}
    step(x, y) -> loss          one whole training step on ids x, y [B,T] of the host; the hidden state is carried to the next one
    steps(x, y, count) -> losses   so many of them on the same ids, with nothing read before the last has been asked for
    gradients() -> tensors      of the last step, in canonical form
    evaluate(x, y) -> loss      forward and loss alone; the state is carried too
    sample(length, texts)       writes so many texts at once, one character at a time, each fed back with the state
Its constructor takes a Shape. It is run as a program of its own, so that its peak memory is its own.

On a GPU steps are asked for many at a time, as crnn-gpu does, so that the device need not wait for the host between them; it has nothing
left to do before and after the time is taken, and all losses are numbers of the host then.
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
    variant: str  # the arithmetic, and after a dash how it is run: fp32, bf16-graph

    @property
    def precision(self):
        return self.variant.partition("-")[0]


class Peer:
    """What holds for a peer on the CPU."""

    def steps(self, x, y, count):
        return [self.step(x, y) for _ in range(count)]

    def wait(self):
        """Until the device has done all that was asked of it."""

    def memory(self):
        """Peak memory of training: of the process on the CPU; what a GPU peer took of its device."""
        return {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


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


def median_seconds(peer, call, times):
    seconds = []
    for _ in range(times):
        peer.wait()
        begin = time.perf_counter()
        call()
        peer.wait()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def writing_rate(peer, length, texts):
    """Characters a second of all texts together."""
    if not length:
        return 0.0
    peer.sample(length, texts)  # warm up, and compile what is compiled for a length
    return length * texts / median_seconds(peer, lambda: peer.sample(length, texts), 1)


def measure(peer, shape, steps, at_once, sample_length, texts):
    random = np.random.default_rng(1)
    x, y = random.integers(0, shape.vocab, (2, shape.batch, shape.length))
    for _ in range(2):  # warm up
        peer.steps(x, y, 1)
    seconds = median_seconds(peer, lambda: peer.steps(x, y, at_once), steps) / at_once
    result = {"step_seconds": seconds, **peer.memory(), "versions": peer.versions}
    peer.evaluate(x, y)
    result["eval_seconds"] = median_seconds(peer, lambda: peer.evaluate(x, y), steps)
    result["sample_chars_per_second"] = writing_rate(peer, sample_length, 1)
    if texts > 1:
        result["texts_chars_per_second"] = writing_rate(peer, sample_length, texts)
    return result


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
    parser.add_argument("--at-once", type=int, default=1, help="steps that are asked for before a loss is read (%(default)s)")
    parser.add_argument("--sample-length", type=int, default=200)
    parser.add_argument("--texts", type=int, default=1)
    parser.add_argument("--follow", nargs=4, metavar=("WEIGHTS", "NEXT", "IDS", "OUT"))
    arguments = parser.parse_args()
    shape = Shape(**arguments.shape)
    peer = peer_class(shape)
    if arguments.follow:
        weights, next_weights, ids, out = arguments.follow
        result = follow(peer, shape, weights, next_weights, np.load(ids), out)
    else:
        result = measure(peer, shape, arguments.steps, arguments.at_once, arguments.sample_length, arguments.texts)
    print(json.dumps(result))
