/* init.h - initial weights: Keras's distributions, drawn as a pure function of the sizes and the seed. */
#ifndef CRNN_MODEL_INIT_H
#define CRNN_MODEL_INIT_H

#include <crnn/model.h>

/* canonical: [crnn_model_parameters] out. Embeddings uniform in +-0.05; kernels Glorot uniform, +-sqrt(6 / (rows + columns)) (Glorot & Bengio,
 * AISTATS 2010, eq. 16), where the columns of a GRU's kernels are all 3H; biases zero. Element i of tensor k is
 * philox(seed, stream k of CRNN_RNG_INIT, i / 4)[i % 4]. */
void crnn_init_weights(float *canonical, const crnn_model_sizes *sizes, uint64_t seed);

#endif
