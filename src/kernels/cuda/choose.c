/* choose.c - the way to compute the recurrent layers of a model: measured, remembered or asked for. */
#include "kernels/cuda/choose.h"
#include "kernels/cuda/device.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int32_t crnn_rnn_fastest(const crnn_rnn_choice *choice)
{
    int32_t best = -1;
    double least = INFINITY;
    if (choice->count < 1 || choice->candidates[0].why[0])
        return -1;
    for (int32_t i = 0; i < choice->count; i++) {
        const crnn_rnn_candidate *c = &choice->candidates[i];
        double seconds = c->forward_seconds + c->backward_seconds;
        if (c->why[0] || !(seconds > 0 && seconds < least))
            continue;
        best = i;
        least = seconds;
    }
    return best;
}

/* --- trying them ----------------------------------------------------------------------------------------------------- */

static bool same_shape(const crnn_gru_shape *a, const crnn_gru_shape *b)
{
    return a->T == b->T && a->B == b->B && a->I == b->I && a->H == b->H && a->V == b->V && a->training == b->training;
}

/* How many layers are as number `which`, where it is the first of them; else 0. */
static int32_t copies(const crnn_gru_shape *shapes, int32_t count, int32_t which)
{
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++) {
        bool same = same_shape(&shapes[i], &shapes[which]);
        if (same && i < which)
            return 0;
        found += same;
    }
    return found;
}

/* Whether the device still answers: after a fault that loses it, nothing can be chosen. */
static bool still_there(crnn_cuda *cuda, const crnn_rnn_candidate *last)
{
    char what[300];
    if (cudaStreamSynchronize(cuda->stream) == cudaSuccess)
        return true;
    snprintf(what, sizeof what, "while %s was tried: %s", last->name, last->why);
    crnn_cuda_failed(cuda, CRNN_ERR_FAULT, what);
    return false;
}

/* The ways that serve so far, on one shape that `times` layers have. */
static bool try_shape(crnn_cuda *cuda, crnn_rnn_choice *choice, const crnn_gru_named_way *ways, crnn_trial *trial,
                      int32_t times)
{
    bool lasting = true;
    for (int32_t i = 0; i < choice->count && !choice->candidates[0].why[0]; i++) {
        crnn_rnn_candidate *c = &choice->candidates[i], one = {0};
        if (c->why[0])
            continue;
        crnn_status status = crnn_trial_run(trial, &ways[i], &cuda->config, &one);
        c->forward_seconds += times * one.forward_seconds;
        c->backward_seconds += times * one.backward_seconds;
        c->difference = fmax(c->difference, one.difference);
        memcpy(c->why, one.why, sizeof c->why);
        lasting = lasting && (status == CRNN_OK || status == CRNN_ERR_ARGUMENT);
        if (status != CRNN_OK && !still_there(cuda, c))
            return false;
    }
    return lasting && !choice->candidates[0].why[0];
}

bool crnn_rnn_measure(crnn_cuda *cuda, crnn_rnn_choice *choice, const crnn_gru_named_way *ways, int32_t way_count,
                      const crnn_gru_shape *shapes, int32_t count)
{
    bool lasting = true;
    choice->count = way_count;
    memset(choice->candidates, 0, sizeof choice->candidates);
    for (int32_t i = 0; i < way_count; i++)
        snprintf(choice->candidates[i].name, sizeof choice->candidates[i].name, "%s", ways[i].name);
    for (int32_t i = 0; i < count && !cuda->failure.status; i++) {
        int32_t times = copies(shapes, count, i);
        if (!times || !crnn_cuda_could_fit(cuda, &shapes[i]))
            continue;
        crnn_error err = {0};
        crnn_trial *trial = crnn_trial_new(&shapes[i], &err);
        if (trial)
            lasting = try_shape(cuda, choice, ways, trial, times) && lasting;
        else
            snprintf(choice->candidates[0].why, sizeof choice->candidates[0].why, "%.190s", err.text);
        crnn_trial_free(trial);
        if (choice->candidates[0].why[0]) /* there is nothing to hold the others against */
            return false;
    }
    return lasting && !cuda->failure.status;
}

/* --- choosing -------------------------------------------------------------------------------------------------------- */

static void note(crnn_rnn_choice *choice, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(crnn_rnn_choice *choice, const char *format, ...)
{
    size_t used = strlen(choice->note);
    va_list arguments;
    if (used > 0 && used + 3 < sizeof choice->note) {
        memcpy(choice->note + used, "; ", 3);
        used += 2;
    }
    va_start(arguments, format);
    vsnprintf(choice->note + used, sizeof choice->note - used, format, arguments);
    va_end(arguments);
}

/* Everything that a time depends on. */
static bool describe(char *key, size_t size, crnn_cuda *cuda, const crnn_gru_shape *shapes, int32_t count)
{
    static const char *const precisions[] = {[CRNN_FP32] = "fp32", [CRNN_TF32] = "tf32", [CRNN_BF16] = "bf16"};
    crnn_device_info info;
    crnn_cuda_describe_device(&info, &cuda->lib);
    size_t used = (size_t)snprintf(key, size, "crnn-gpu %s; %s; %s; %s", CRNN_VERSION, info.name, info.versions,
                                   precisions[cuda->config.precision]);
    for (int32_t i = 0; i < count && used < size; i++) {
        int32_t times = copies(shapes, count, i);
        const crnn_gru_shape *s = &shapes[i];
        if (times)
            used += (size_t)snprintf(key + used, size - used, "; %d x T %d B %d I %d H %d V %d", times, s->T, s->B,
                                     s->I, s->H, s->V);
    }
    return info.usable && used < size;
}

static bool is_ours(const crnn_gru_named_way *way)
{
    return way->way != &crnn_gru_cudnn;
}

/* What a person should know of the table. */
static void note_table(crnn_rnn_choice *choice)
{
    bool served = false;
    const crnn_rnn_candidate *of_ours = NULL;
    for (int32_t i = 0; i < choice->count; i++)
        if (is_ours(crnn_cuda_way(choice->candidates[i].name, NULL))) {
            of_ours = &choice->candidates[i];
            served = served || !of_ours->why[0];
        }
    if (choice->candidates[0].why[0])
        note(choice, "the ways to compute a recurrent layer could not be compared: %s; cudnn is taken",
             choice->candidates[0].why);
    else if (of_ours && !served)
        note(choice, "none of our own ways to compute a recurrent layer serves here (%s: %s); cuDNN computes it",
             of_ours->name, of_ours->why);
}

static void measure_or_recall(crnn_cuda *cuda, crnn_rnn_choice *choice, const crnn_gru_shape *shapes, int32_t count)
{
    char key[2048];
    crnn_error err = {0};
    bool keyed = describe(key, sizeof key, cuda, shapes, count);
    choice->reason = CRNN_RNN_REMEMBERED;
    if (!keyed || cuda->config.measure_again || !crnn_rnn_recall(choice, key)) {
        choice->reason = CRNN_RNN_MEASURED;
        bool lasting = crnn_rnn_measure(cuda, choice, crnn_gru_ways, CRNN_GRU_WAYS, shapes, count);
        if (lasting && keyed && crnn_rnn_remember(choice, key, &err) != CRNN_OK)
            note(choice, "what was measured cannot be kept for the next time: %.200s", err.text);
    }
    note_table(choice);
}

void crnn_cuda_gru_choose(crnn_backend *be, crnn_rnn_choice *choice, const crnn_gru_shape *shapes, int32_t count)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    const char *asked = cuda->config.rnn_algo;
    const crnn_gru_named_way *way = crnn_cuda_way(asked, NULL);
    *choice = (crnn_rnn_choice){.reason = CRNN_RNN_ASKED_FOR};
    if (crnn_cuda_begin(cuda, "gru_choose") && (!asked || strcmp(asked, "auto") == 0)) {
        choice->reason = CRNN_RNN_BY_RULE;
        if (shapes[0].training)
            measure_or_recall(cuda, choice, shapes, count);
        int32_t best = crnn_rnn_fastest(choice);
        if (best >= 0)
            way = crnn_cuda_way(choice->candidates[best].name, NULL);
    }
    crnn_cuda_take_way(cuda, way);
    snprintf(choice->name, sizeof choice->name, "%s", way->name);
}
