"""The model in TensorFlow's Keras, as the tutorial has it: a stateful GRU (reset_after), Adam's defaults, a compiled train step.

It needs the Keras whose GRU carries state between calls as the tutorial's does: TensorFlow up to 2.15, or tf_keras beside a later one.
"""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import peer  # noqa: E402

try:
    import tf_keras as keras
except ImportError:
    keras = tf.keras


def build(shape, batch):
    layers = [keras.layers.Embedding(shape.vocab, shape.embedding, batch_input_shape=[batch, None])]
    for _ in range(shape.layers):
        layers.append(keras.layers.GRU(shape.units, return_sequences=True, stateful=True))
    return keras.Sequential(layers + [keras.layers.Dense(shape.vocab)])


class Keras(peer.Peer):
    """Variant on the CPU: fp32."""

    def __init__(self, shape):
        keras.utils.set_random_seed(1)
        tf.config.threading.set_intra_op_parallelism_threads(shape.threads)
        tf.config.threading.set_inter_op_parallelism_threads(shape.threads)
        self.shape = shape
        self.versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
        self.model = build(shape, shape.batch)
        self.optimizer = keras.optimizers.Adam()
        self.writers = {}  # by how many texts they write at once
        self.last_gradients = None

        @tf.function
        def train(x, y):
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables))
            return loss, gradients

        @tf.function
        def evaluate(x, y):
            return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, self.model(x), from_logits=True))

        self.train, self.forward = train, evaluate

    def evaluate(self, x, y):
        return float(self.forward(tf.constant(x), tf.constant(y)))

    def step(self, x, y):
        loss, self.last_gradients = self.train(tf.constant(x), tf.constant(y))
        return float(loss)

    def names(self):
        """Canonical names in the order of Keras's own variables, which have the same form."""
        recurrent = [f"{peer.layer_name(layer)}/{part}" for layer in range(self.shape.layers)
                     for part in ("kernel", "recurrent_kernel", "bias")]
        return ["embedding/embeddings", *recurrent, "dense/kernel", "dense/bias"]

    def load(self, tensors):
        self.model.set_weights([tensors[name] for name in self.names()])

    def gradients(self):
        dense = [tf.convert_to_tensor(g).numpy() for g in self.last_gradients]  # that of the embedding comes as slices
        return dict(zip(self.names(), dense))

    def sample(self, length, texts):
        if texts not in self.writers:
            self.writers[texts] = build(self.shape, texts)
            self.writers[texts].set_weights(self.model.get_weights())
        writer = self.writers[texts]
        writer.reset_states()
        written, last = [], tf.zeros([texts, 1], tf.int64)
        for _ in range(length):
            last = tf.random.categorical(tf.squeeze(writer(last), 1), num_samples=1)
            written.append(last.numpy()[:, 0])
        return np.stack(written, 1).tolist()


if __name__ == "__main__":
    peer.main(Keras)
