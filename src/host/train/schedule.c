#include "host/train/schedule.h"
#include <math.h>

int64_t crnn_total_steps(const crnn_train_options *options, int64_t steps_per_epoch)
{
    int64_t total;
    if (__builtin_mul_overflow(options->epochs, steps_per_epoch, &total))
        total = INT64_MAX;
    return options->max_steps > 0 && options->max_steps < total ? options->max_steps : total;
}

float crnn_schedule_rate(const crnn_train_options *options, int64_t s, int64_t total, double factor)
{
    double lr = (double)options->lr * factor;
    if (s <= options->warmup)
        return (float)(lr * (double)s / (double)options->warmup);
    if (options->lr_schedule == CRNN_LR_CONSTANT || total <= options->warmup)
        return (float)lr;
    double p = (double)(s - 1 - options->warmup) / (double)(total - options->warmup);
    p = p < 1 ? p : 1;
    if (options->lr_schedule == CRNN_LR_LINEAR)
        return (float)(lr * (1 - p));
    return (float)(lr * 0.5 * (1 + cos(3.14159265358979323846 * p)));
}
