/* sample.h - writing text: characters are drawn from softmax(logits / temperature) and fed back with the state. */
#ifndef CRNN_SAMPLE_H
#define CRNN_SAMPLE_H

#include <crnn/device.h>
#include <crnn/error.h>
#include <crnn/model.h>
#include <crnn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    float temperature; /* 0: always the most likely character (the lowest id among equals) */
    int32_t top_k;     /* keep the k most likely; 0: all */
    float top_p;       /* then the fewest whose probabilities reach p; 1: all */
    float min_p;       /* and those at least min_p times as likely as the likeliest; 0: all */
    uint64_t seed;
} crnn_sample_options;
crnn_sample_options crnn_sample_options_default(void); /* 1, 0, 1, 0, 1 */

typedef struct crnn_sampler crnn_sampler;

/* Writes `count` texts at once with the given canonical weights (copied); state zero. */
crnn_sampler *crnn_sampler_new(const crnn_model_sizes *sizes, const float *weights, int32_t count,
                               const crnn_sample_options *options, const crnn_device_config *device, crnn_error *err);
void crnn_sampler_free(crnn_sampler *sampler);
/* Runs ids [n] (n >= 1) through the model in every text, from the present state. */
crnn_status crnn_sampler_prime(crnn_sampler *sampler, const uint16_t *ids, int64_t n, crnn_error *err);
/* Draws the next character of each text and feeds it back. ids: [count]. Prime first. Text k of a seed is the same
 * whatever count is; draw i of text k is Philox4x32-10 (seed; stream k; counter i). */
crnn_status crnn_sampler_next(crnn_sampler *sampler, uint16_t *ids, crnn_error *err);
/* The same n times at once, which a GPU does faster. ids: [n,count]. */
crnn_status crnn_sampler_write(crnn_sampler *sampler, uint16_t *ids, int64_t n, crnn_error *err);
/* The probabilities that the next draw will use, after temperature and filters. p: [count,V]. */
crnn_status crnn_sampler_probabilities(crnn_sampler *sampler, float *p, crnn_error *err);
/* Zeroes the state, restarts the draws. */
crnn_status crnn_sampler_reset(crnn_sampler *sampler, crnn_error *err);

#ifdef __cplusplus
}
#endif
#endif
