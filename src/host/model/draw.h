/* draw.h - from one row of logits to one character: temperature, the filters, one draw. Pure functions on the host. */
#ifndef CRNN_MODEL_DRAW_H
#define CRNN_MODEL_DRAW_H

#include <crnn/sample.h>

/* One candidate during filtering. */
typedef struct {
    float p;
    int32_t id;
} crnn_candidate;

/* p: [V] out: the probabilities of softmax(logits / temperature) after top-k, then top-p (Holtzman et al., ICLR 2020) over what top-k left, then
 * min-p, summing to 1. Among equals the lower id stays. Temperature 0: all on the most likely character, the lowest id among equals.
 * logits: [V]; scratch: [V]. */
void crnn_probabilities(float *p, const float *logits, int32_t V, const crnn_sample_options *options,
                        crnn_candidate *scratch);

/* The id whose part of [0,1) holds u, by running sums in id order; never one of probability 0. p: [V]. */
uint16_t crnn_pick(const float *p, int32_t V, float u);

#endif
