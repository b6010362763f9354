"""The model in plain JAX: the GRU by lax.scan with the equations of reset_after, Adam as Keras has it, one jitted step, buffers donated."""
import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or else its peak would be what it reserves at the start

from functools import partial  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import peer  # noqa: E402

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def product(variant, a, b):
    """Accumulated in float32. What fp32 and tf32 mean to a GPU is set for the process; bf16 rounds the operands here."""
    if variant == "bf16":
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def gru(variant, weights, name, x, h):
    """x [T,B,.] -> all h [T,B,H], and the last."""
    bias = weights[f"{name}/bias"]

    def step(h, xk):
        hr = product(variant, h, weights[f"{name}/recurrent_kernel"]) + bias[1]
        (xz, xr, xn), (hz, hr, hn) = jnp.split(xk, 3, -1), jnp.split(hr, 3, -1)
        z, r = jax.nn.sigmoid(xz + hz), jax.nn.sigmoid(xr + hr)
        h = z * h + (1 - z) * jnp.tanh(xn + r * hn)
        return h, h

    last, all_h = jax.lax.scan(step, h, product(variant, x, weights[f"{name}/kernel"]) + bias[0])
    return all_h, last


def forward(variant, weights, x, state):
    """Ids [T,B] and state [L,B,H] -> logits [T,B,V] and the state after them."""
    y, states = weights["embedding/embeddings"][x], []
    for layer, h in enumerate(state):
        y, h = gru(variant, weights, peer.layer_name(layer), y, h)
        states.append(h)
    return product(variant, y, weights["dense/kernel"]) + weights["dense/bias"], jnp.stack(states)


def loss_of(weights, variant, x, y, state):
    logits, state = forward(variant, weights, x, state)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1)
    return -chosen.mean(), state


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3, 4))
def train(variant, weights, m, v, state, t, x, y):
    (loss, state), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, variant, x.T, y.T, state)
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradients)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradients)
    rate = RATE * jnp.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, m, v)
    return weights, m, v, state, loss


@partial(jax.jit, static_argnums=0, donate_argnums=4)
def evaluate(variant, weights, x, y, state):
    return loss_of(weights, variant, x.T, y.T, state)


@partial(jax.jit, static_argnums=(0, 2, 3))
def write(variant, weights, length, texts, key, state):
    """Ids [length,texts]: the whole text in one call, as lax.scan allows."""

    def step(carry, key):
        last, state = carry
        logits, state = forward(variant, weights, last[None], state)
        last = jax.random.categorical(key, logits[0])
        return (last, state), last

    return jax.lax.scan(step, (jnp.zeros(texts, int), state), jax.random.split(key, length))[1]


class Jax(peer.Peer):
    """Variants: fp32; on a GPU also tf32 and bf16 (operands rounded, sums and weights float32)."""

    def __init__(self, shape):
        if shape.device == "cpu":  # XLA's pool has a thread for each core that this process may use
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: shape.threads])
        jax.config.update("jax_platforms", shape.device)
        jax.config.update("jax_default_matmul_precision", {"fp32": "float32", "tf32": "tensorfloat32"}.get(shape.variant))
        self.shape, self.device = shape, jax.devices()[0]
        self.versions = f"JAX {jax.__version__}, {self.device.device_kind}"
        self.t, self.state = 0, self.zero_state(shape.batch)
        random = np.random.default_rng(1)
        self.load({name: random.uniform(-0.05, 0.05, size).astype(np.float32) for name, size in self.sizes()})

    def zero_state(self, rows):
        return jnp.zeros((self.shape.layers, rows, self.shape.units))

    def sizes(self):
        s, inputs = self.shape, self.shape.embedding
        yield "embedding/embeddings", (s.vocab, s.embedding)
        for layer in range(s.layers):
            name = peer.layer_name(layer)
            yield f"{name}/kernel", (inputs, 3 * s.units)
            yield f"{name}/recurrent_kernel", (s.units, 3 * s.units)
            yield f"{name}/bias", (2, 3 * s.units)
            inputs = s.units
        yield "dense/kernel", (s.units, s.vocab)
        yield "dense/bias", (s.vocab,)

    def load(self, tensors):
        self.weights = {name: jnp.array(tensors[name]) for name, _ in self.sizes()}
        self.m, self.v = (jax.tree.map(jnp.zeros_like, self.weights) for _ in range(2))
        self.t = 0

    def ask(self, x, y):
        """One step; its loss is on the device, and may not be there yet."""
        self.t += 1
        self.weights, self.m, self.v, self.state, loss = train(self.shape.variant, self.weights, self.m, self.v, self.state,
                                                               float(self.t), x, y)
        return loss

    def step(self, x, y):
        return float(self.ask(x, y))

    def steps(self, x, y, count):
        x, y = jax.device_put((x, y))
        return [float(loss) for loss in [self.ask(x, y) for _ in range(count)]]

    def gradients(self):
        """After one update from zero, Adam's m is (1 - BETA1) of the gradient; to return that itself would cost the timed step memory."""
        return {name: np.asarray(m) / np.float32(1 - BETA1) for name, m in self.m.items()}

    def evaluate(self, x, y):
        loss, self.state = evaluate(self.shape.variant, self.weights, x, y, self.state)
        return float(loss)

    def sample(self, length, texts):
        ids = write(self.shape.variant, self.weights, length, texts, jax.random.key(1), self.zero_state(texts))
        return np.asarray(ids).T.tolist()

    def wait(self):
        jax.block_until_ready(self.weights)

    def memory(self):
        if self.shape.device == "cpu":
            return super().memory()
        return {"peak_memory_bytes": self.device.memory_stats()["peak_bytes_in_use"]}


if __name__ == "__main__":
    peer.main(Jax)
