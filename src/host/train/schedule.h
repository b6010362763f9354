/* schedule.h - the learning rate of each step: a linear warm-up, then a constant, a cosine or a line down to 0. */
#ifndef CRNN_TRAIN_SCHEDULE_H
#define CRNN_TRAIN_SCHEDULE_H

#include <crnn/train.h>

/* Steps of the whole run: epochs of steps_per_epoch, or max_steps where that is fewer (0: no limit). Saturates. */
int64_t crnn_total_steps(const crnn_train_options *options, int64_t steps_per_epoch);

/* The rate of step s (from 1) of total, times factor. Warm-up: lr * s / warmup, which reaches lr at s = warmup. The steps after it
 * run from lr at the first towards 0, which is reached one step after the last, so that no step is wasted on a rate of 0:
 * p = (s - 1 - warmup) / (total - warmup); cosine: lr * (1 + cos(pi p)) / 2 (Loshchilov & Hutter, ICLR 2017, without
 * restarts); linear: lr * (1 - p). */
float crnn_schedule_rate(const crnn_train_options *options, int64_t s, int64_t total, double factor);

#endif
