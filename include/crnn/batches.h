/* batches.h - where in the text each row of each (T,B) batch begins.
 *
 * A batch is B start positions: x[t,b] = ids[start[b] + t] and y[t,b] = ids[start[b] + t + 1]. So a device that holds the ids
 * gathers a batch from B numbers. Both ways are exact and depend on the seed and the epoch alone, so that any position
 * of any epoch can be gone to directly.
 *
 * streams: B contiguous streams of S = floor((N-1)/B) characters, floor(S/T) steps; step k gives row b the start b*S + k*T.
 * windows: sequences of T+1 characters without overlap, shuffled through a buffer as tf.data does, remainder dropped.
 */
#ifndef CRNN_BATCHES_H
#define CRNN_BATCHES_H

#include <crnn/error.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CRNN_STREAMS, CRNN_WINDOWS } crnn_batching;

typedef struct {
    crnn_batching batching;
    int64_t characters;     /* N */
    int32_t B, T;           /* rows, and characters a row */
    int64_t shuffle_buffer; /* sequences, >= 1; windows only */
    uint64_t seed;
} crnn_batches_config;

/* How many sequences and steps an epoch would have: as crnn_batches_new, but allocates nothing. */
crnn_status crnn_batches_count(const crnn_batches_config *config, int64_t *sequences, int64_t *steps, crnn_error *err);

typedef struct crnn_batches crnn_batches;

/* CRNN_ERR_FORMAT where the text is shorter than one batch; the sentence says how many characters are needed. */
crnn_batches *crnn_batches_new(const crnn_batches_config *config, crnn_error *err);
void crnn_batches_free(crnn_batches *batches);
int64_t
crnn_batches_sequences(const crnn_batches *batches);     /* of T+1 characters in windows; rows of steps in streams */
int64_t crnn_batches_steps(const crnn_batches *batches); /* per epoch */

/* Goes to step (0-based) of epoch (0-based). */
crnn_status crnn_batches_seek(crnn_batches *batches, int64_t epoch, int64_t step, crnn_error *err);
/* The B start positions of the present step, valid until the next call; NULL when the epoch is over. Moves on by one. */
const int64_t *crnn_batches_next(crnn_batches *batches);

#ifdef __cplusplus
}
#endif
#endif
