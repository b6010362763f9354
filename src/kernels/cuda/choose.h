/* choose.h - which way computes the recurrent layers of a model, where that is left to us: each is tried on layers of their shapes, and the
 * fastest of those that give what cuDNN's standard way gives is taken.
 *
 * Each trial has a backend of its own, so that nothing remains of it: no memory, no larger workspace, no algorithm of a product that was chosen
 * under other circumstances, no failure. So a run that measured and one that takes up its record compute the same bits.
 */
#ifndef CRNN_KERNELS_CUDA_CHOOSE_H
#define CRNN_KERNELS_CUDA_CHOOSE_H

#include "kernels/cuda/cuda.h"

/* trial.c: a training layer of one shape, with weights and inputs drawn at random, the same each time. */
typedef struct crnn_trial crnn_trial;
crnn_trial *crnn_trial_new(const crnn_gru_shape *shape, crnn_error *err);
void crnn_trial_free(crnn_trial *trial);
/* Computes it forward and backward in one way, as the graphs of a step do it, and adds what a pass took to `result`. States and gradients of the first
 * way are what those of the others are held against; result->why says where they differ too much, or where the way does not serve.
 * CRNN_OK; CRNN_ERR_ARGUMENT: it does not serve this shape on this GPU; others: it might another time. */
crnn_status crnn_trial_run(crnn_trial *trial, const crnn_gru_named_way *way, const crnn_device_config *config,
                           crnn_rnn_candidate *result);

/* remember.c: tables of candidates in $XDG_CACHE_HOME/crnn-gpu, else ~/.cache/crnn-gpu, one file a key. The key is a text in which everything stands
 * that a time depends on. */
/* False where there is no table of that key, or none that can be read. */
bool crnn_rnn_recall(crnn_rnn_choice *choice, const char *key);
crnn_status crnn_rnn_remember(const crnn_rnn_choice *choice, const char *key, crnn_error *err);

/* choose.c. The fastest candidate that serves, the earlier among equals; -1 where the first does not, so that there was nothing to compare with. */
int32_t crnn_rnn_fastest(const crnn_rnn_choice *choice);
/* Tries the ways [way_count], the first of which is what the others are held against, on the layers of a model [count]: fills
 * choice->candidates. False where that table should not be kept, as it might come out otherwise another time. */
bool crnn_rnn_measure(crnn_cuda *cuda, crnn_rnn_choice *choice, const crnn_gru_named_way *ways, int32_t way_count,
                      const crnn_gru_shape *shapes, int32_t count);

#endif
