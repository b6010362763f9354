"""The model in PyTorch, as its users write it: nn.Embedding, nn.GRU, nn.Linear, cross_entropy, Adam; the state detached and carried."""
import numpy as np
import torch
from torch import nn

import peer


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab, shape.embedding)
        self.gru = nn.GRU(shape.embedding, shape.units, shape.layers, batch_first=True)
        self.dense = nn.Linear(shape.units, shape.vocab)

    def forward(self, x, state):
        y, state = self.gru(self.embedding(x), state)
        return self.dense(y), state


def graphed(work):
    """work() as one CUDA graph, recorded after three runs on a side stream, as PyTorch's documentation says to. Returns what replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class PyTorch(peer.Peer):
    """Variants: fp32; bf16 by autocast, with float32 weights; on a GPU also tf32, and each of them with -graph (the whole step, the optimizer
    included, as one CUDA graph) and -compile (torch.compile of the model)."""

    def __init__(self, shape):
        torch.manual_seed(1)
        torch.set_num_threads(shape.threads)
        self.shape, self.on_gpu = shape, shape.device == "cuda"
        self.mode = shape.variant.partition("-")[2]
        self.versions = f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
        optimizer = {}
        if self.on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = shape.precision == "tf32"
            self.versions = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
            optimizer = {"fused": True, "capturable": self.mode == "graph"}
        self.model = Model(shape).to(shape.device)
        self.call = torch.compile(self.model) if self.mode == "compile" else self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7, **optimizer)
        # Where a graph reads and writes.
        self.x, self.y = (torch.zeros(shape.batch, shape.length, dtype=torch.long, device=shape.device) for _ in range(2))
        self.state, self.loss = self.zero_state(shape.batch), torch.zeros((), device=shape.device)
        self.train = self.as_run(self.train_work)
        self.begin()
        self.forward = None  # made when it is asked for, or else it would count in the memory of training
        self.writers = {}

    def as_run(self, work):
        return graphed(work) if self.mode == "graph" else work

    def begin(self):
        """Undoes the steps that recording took, but for the weights, which come by load()."""
        self.state.zero_()
        for moments in self.optimizer.state.values():
            for moment in moments.values():
                moment.zero_()

    def zero_state(self, rows):
        return torch.zeros(self.shape.layers, rows, self.shape.units, device=self.shape.device)

    def cast(self):
        # What autocast caches would be recorded once and then be stale in a graph.
        return torch.autocast(self.shape.device, torch.bfloat16, enabled=self.shape.precision == "bf16",
                              cache_enabled=self.mode != "graph")

    def loss_and_state(self):
        with self.cast():
            logits, state = self.call(self.x, self.state)
        return nn.functional.cross_entropy(logits.float().reshape(-1, self.shape.vocab), self.y.reshape(-1)), state

    def train_work(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss, state = self.loss_and_state()
        loss.backward()
        self.optimizer.step()
        self.state.copy_(state.detach())
        self.loss.copy_(loss.detach())

    @torch.no_grad()
    def evaluate_work(self):
        loss, state = self.loss_and_state()
        self.state.copy_(state)
        self.loss.copy_(loss)

    def put(self, x, y):
        self.x.copy_(torch.from_numpy(np.asarray(x)))
        self.y.copy_(torch.from_numpy(np.asarray(y)))

    def run(self, work, x, y):
        self.put(x, y)
        work()
        return self.loss.item()

    def step(self, x, y):
        return self.run(self.train, x, y)

    def steps(self, x, y, count):
        self.put(x, y)
        losses = torch.empty(count, device=self.shape.device)
        for i in range(count):
            self.train()
            losses[i].copy_(self.loss)
        return losses.tolist()

    def evaluate(self, x, y):
        if self.forward is None:
            self.forward = self.as_run(self.evaluate_work)
        return self.run(self.forward, x, y)

    def wait(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def memory(self):
        """Of a GPU: of all tensors, and what the allocator took from the driver for them."""
        if not self.on_gpu:
            return super().memory()
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(), "peak_reserved_bytes": torch.cuda.max_memory_reserved()}

    def tensors(self):
        """(canonical name, parameter, how canonical becomes PyTorch's, and back)."""
        transposed = (lambda a: a.T, lambda a: a.T)
        gates = (lambda a: peer.swap_gates(a).T, lambda a: peer.swap_gates(a.T))
        same = (lambda a: a, lambda a: a)
        yield "embedding/embeddings", self.model.embedding.weight, *same
        for layer in range(self.shape.layers):
            name = peer.layer_name(layer)
            yield f"{name}/kernel", getattr(self.model.gru, f"weight_ih_l{layer}"), *gates
            yield f"{name}/recurrent_kernel", getattr(self.model.gru, f"weight_hh_l{layer}"), *gates
            for row, side in enumerate(["ih", "hh"]):
                yield f"{name}/bias:{row}", getattr(self.model.gru, f"bias_{side}_l{layer}"), peer.swap_gates, peer.swap_gates
        yield "dense/kernel", self.model.dense.weight, *transposed
        yield "dense/bias", self.model.dense.bias, *same

    def load(self, tensors):
        with torch.no_grad():
            for name, parameter, theirs, _ in self.tensors():
                name, _, row = name.partition(":")
                value = tensors[name][int(row)] if row else tensors[name]
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(theirs(value))))

    def gradients(self):
        found = {name: ours(parameter.grad.cpu().numpy()) for name, parameter, _, ours in self.tensors()}
        for name in [n for n in found if n.endswith(":0")]:
            base = name[:-2]
            found[base] = np.stack([found.pop(name), found.pop(base + ":1")])
        return found

    def writer(self, texts):
        """(what draws the next character of each text and feeds it back, the characters [texts,1], the state)"""
        last, state = torch.zeros(texts, 1, dtype=torch.long, device=self.shape.device), self.zero_state(texts)

        @torch.no_grad()
        def work():
            with self.cast():
                logits, after = self.model(last, state)
            p = torch.softmax(logits[:, 0].float(), -1)
            # torch.multinomial's own way without its check of p, for which the host would have to wait.
            last.copy_(torch.argmax(p / torch.empty_like(p).exponential_(1), -1, keepdim=True))
            state.copy_(after)

        return self.as_run(work), last, state

    def sample(self, length, texts):
        if texts not in self.writers:
            self.writers[texts] = self.writer(texts)
        work, last, state = self.writers[texts]
        last.zero_()
        state.zero_()
        written = torch.zeros(length, texts, dtype=torch.long, device=self.shape.device)
        for i in range(length):
            work()
            written[i] = last[:, 0]
        return written.T.tolist()


if __name__ == "__main__":
    peer.main(PyTorch)
