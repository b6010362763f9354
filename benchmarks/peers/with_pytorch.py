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


class PyTorch:
    """Variants on the CPU: fp32; bf16 by autocast, with float32 weights."""

    def __init__(self, shape):
        torch.manual_seed(1)
        torch.set_num_threads(shape.threads)
        self.shape = shape
        self.versions = f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
        self.model = Model(shape)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7)
        self.state = None

    def cast(self):
        return torch.autocast(self.shape.device, torch.bfloat16, enabled=self.shape.variant == "bf16")

    def step(self, x, y):
        x, y = torch.from_numpy(np.asarray(x)), torch.from_numpy(np.asarray(y))
        self.optimizer.zero_grad()
        with self.cast():
            logits, state = self.model(x, self.state)
        loss = nn.functional.cross_entropy(logits.float().reshape(-1, self.shape.vocab), y.reshape(-1))
        loss.backward()
        self.optimizer.step()
        self.state = state.detach()
        return loss.item()

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
        found = {name: ours(parameter.grad.numpy()) for name, parameter, _, ours in self.tensors()}
        for name in [n for n in found if n.endswith(":0")]:
            base = name[:-2]
            found[base] = np.stack([found.pop(name), found.pop(base + ":1")])
        return found

    @torch.inference_mode()
    def sample(self, length):
        text, state = [], None
        last = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(length):
            with self.cast():
                logits, state = self.model(last, state)
            last = torch.multinomial(torch.softmax(logits[0].float(), -1), 1)
            text.append(last.item())
        return text


if __name__ == "__main__":
    peer.main(PyTorch)
