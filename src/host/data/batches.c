#include "host/base/memory.h"
#include "host/base/rng.h"
#include <crnn/batches.h>
#include <stdlib.h>

struct crnn_batches {
    crnn_batches_config config;
    int64_t sequences, steps;
    int64_t epoch, step;
    int64_t *starts; /* [B] */
    /* Windows: the shuffle buffer as it is before the present step. */
    int64_t *buffer;  /* [capacity] numbers of sequences */
    int64_t capacity; /* min(shuffle_buffer, sequences) */
    int64_t held;     /* entries in use */
    int64_t upcoming; /* the next sequence to go in */
    uint64_t draws;   /* of the epoch's stream of random numbers */
};

static crnn_status check(const crnn_batches_config *config, crnn_error *err)
{
    if (config->B < 1 || config->T < 1)
        return crnn_fail(err, CRNN_ERR_ARGUMENT,
                         "a batch has at least one row and one character a row, not %ld and %ld", (long)config->B,
                         (long)config->T);
    if (config->batching != CRNN_STREAMS && config->batching != CRNN_WINDOWS)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "no such batching: %d", (int)config->batching);
    if (config->batching == CRNN_WINDOWS && config->shuffle_buffer < 1)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the shuffle buffer holds at least one sequence, not %lld",
                         (long long)config->shuffle_buffer);
    return CRNN_OK;
}

/* The least number of characters that makes one step. */
static int64_t needed(const crnn_batches_config *config)
{
    int64_t B = config->B, T = config->T;
    return config->batching == CRNN_STREAMS ? B * T + 1 : B * (T + 1);
}

static void begin_epoch(crnn_batches *batches, int64_t epoch)
{
    batches->epoch = epoch;
    batches->step = 0;
    batches->draws = 0;
    batches->held = batches->upcoming = batches->capacity;
    for (int64_t i = 0; i < batches->capacity; i++)
        batches->buffer[i] = i;
}

crnn_status crnn_batches_count(const crnn_batches_config *config, int64_t *sequences, int64_t *steps, crnn_error *err)
{
    crnn_status status = check(config, err);
    int64_t B = config->B, T = config->T;
    *sequences = *steps = 0;
    if (status != CRNN_OK)
        return status;
    if (config->characters < needed(config))
        return crnn_fail(
            err, CRNN_ERR_FORMAT,
            "the text has %lld characters; %ld rows of %ld need at least %lld: give more text, or smaller batches",
            (long long)config->characters, (long)config->B, (long)config->T, (long long)needed(config));
    if (config->batching == CRNN_STREAMS) {
        *steps = (config->characters - 1) / B / T;
        *sequences = *steps * B;
    } else {
        *sequences = config->characters / (T + 1);
        *steps = *sequences / B;
    }
    return CRNN_OK;
}

crnn_batches *crnn_batches_new(const crnn_batches_config *config, crnn_error *err)
{
    int64_t sequences, steps;
    if (crnn_batches_count(config, &sequences, &steps, err) != CRNN_OK)
        return NULL;
    crnn_batches *batches = crnn_alloc(1, sizeof *batches, "the batches", err);
    if (!batches)
        return NULL;
    batches->config = *config;
    batches->sequences = sequences;
    batches->steps = steps;
    if (config->batching == CRNN_WINDOWS) {
        batches->capacity = config->shuffle_buffer < sequences ? config->shuffle_buffer : sequences;
        batches->buffer = crnn_alloc((size_t)batches->capacity, sizeof(int64_t), "the shuffle buffer", err);
        if (!batches->buffer)
            goto fail;
    }
    batches->starts = crnn_alloc((size_t)config->B, sizeof(int64_t), "the rows of a batch", err);
    if (!batches->starts)
        goto fail;
    begin_epoch(batches, 0);
    return batches;
fail:
    crnn_batches_free(batches);
    return NULL;
}

void crnn_batches_free(crnn_batches *batches)
{
    if (!batches)
        return;
    free(batches->buffer);
    free(batches->starts);
    free(batches);
}

int64_t crnn_batches_sequences(const crnn_batches *batches)
{
    return batches->sequences;
}

int64_t crnn_batches_steps(const crnn_batches *batches)
{
    return batches->steps;
}

/* tf.data's shuffle: an entry of the buffer, each as likely; the next sequence takes its place, while there is one. */
static int64_t draw(crnn_batches *batches)
{
    uint64_t stream = crnn_rng_stream(CRNN_RNG_SHUFFLE, (uint64_t)batches->epoch);
    int64_t *entry =
        &batches->buffer[crnn_uniform_below(batches->config.seed, stream, &batches->draws, (uint64_t)batches->held)];
    int64_t sequence = *entry;
    if (batches->upcoming < batches->sequences)
        *entry = batches->upcoming++;
    else
        *entry = batches->buffer[--batches->held];
    return sequence;
}

const int64_t *crnn_batches_next(crnn_batches *batches)
{
    if (batches->step >= batches->steps)
        return NULL;
    int64_t T = batches->config.T, S = (batches->config.characters - 1) / batches->config.B;
    for (int32_t b = 0; b < batches->config.B; b++)
        batches->starts[b] =
            batches->config.batching == CRNN_STREAMS ? b * S + batches->step * T : draw(batches) * (T + 1);
    batches->step++;
    return batches->starts;
}

crnn_status crnn_batches_seek(crnn_batches *batches, int64_t epoch, int64_t step, crnn_error *err)
{
    if (epoch < 0 || epoch >= (int64_t)1 << 56 || step < 0 || step > batches->steps)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "there is no step %lld of epoch %lld: an epoch has %lld steps",
                         (long long)step, (long long)epoch, (long long)batches->steps);
    if (epoch != batches->epoch || step < batches->step)
        begin_epoch(batches, epoch);
    if (batches->config.batching == CRNN_STREAMS)
        batches->step = step;
    while (batches->step < step) /* the buffer depends on every draw before */
        crnn_batches_next(batches);
    return CRNN_OK;
}
