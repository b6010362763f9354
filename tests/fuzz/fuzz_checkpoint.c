/* A file as a checkpoint, as initial weights, and as safetensors tensor by tensor. */
#include "fuzz.h"
#include "host/tensors/safetensors.h"
#include <crnn/crnn.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a reader lets through fits the promises of checkpoint.h. */
static void look_at(const crnn_checkpoint *c)
{
    int64_t parameters = crnn_model_parameters(&c->sizes);
    ALWAYS(c->sizes.V >= 1 && c->sizes.V <= CRNN_MAX_VOCAB && c->sizes.L >= 1 && parameters >= 1);
    ALWAYS((c->B > 0) == (c->m != NULL) && (c->m != NULL) == (c->state != NULL) && (c->v != NULL) == (c->m != NULL));
    for (int64_t i = 0; i < parameters; i++) {
        ALWAYS(isfinite(c->weights[i]));
        ALWAYS(!c->m || (isfinite(c->m[i]) && isfinite(c->v[i])));
    }
    crnn_vocab *vocab = crnn_vocab_new(c->vocab, c->sizes.V, NULL);
    ALWAYS(vocab);
    crnn_vocab_free(vocab);
    json_t *options = json_loads(c->options, 0, NULL);
    ALWAYS(json_is_object(options));
    json_decref(options);
    char summary[4096];
    ALWAYS(crnn_model_summary(summary, sizeof summary, &c->sizes, c->B ? c->B : 1) > 0);
}

static void look_at_tensors(const char *path, size_t size)
{
    crnn_st_file *file = crnn_st_open(path, NULL);
    uint8_t computed[32], stored[32];
    if (!file)
        return;
    ALWAYS(crnn_st_size(file) == (int64_t)size);
    for (int i = 0; i < crnn_st_count(file); i++) {
        const crnn_st_tensor *t = crnn_st_at(file, i);
        ALWAYS(t->begin >= 10 && t->bytes >= 0 && t->begin + t->bytes <= (int64_t)size);
        ALWAYS(t->bytes == t->count * (int64_t)crnn_st_type_size(t->type));
        const crnn_st_tensor *same = crnn_st_find(file, t->name);
        ALWAYS(same);
        double *values = malloc((size_t)t->count * sizeof *values + 1);
        crnn_status status = crnn_st_read_doubles(file, t, values, NULL);
        ALWAYS(values && (status == CRNN_OK) == (t->type >= CRNN_ST_F16));
        free(values);
    }
    if (size >= 32)
        ALWAYS(crnn_st_digest(file, computed, stored, NULL) == CRNN_OK);
    crnn_st_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    crnn_error err = {0};
    const char *path = fuzz_file(data, size);
    crnn_checkpoint *c = crnn_checkpoint_read(path, &err);
    ALWAYS(c || (err.status != CRNN_OK && strlen(err.text) > 10));
    if (c)
        look_at(c);
    crnn_checkpoint_free(c);
    look_at_tensors(path, size);
    const crnn_model_sizes sizes = {3, 2, 2, 1, 0};
    float weights[128];
    ALWAYS(crnn_model_parameters(&sizes) <= 128);
    if (crnn_weights_read(path, &sizes, weights, &err) == CRNN_OK)
        for (int64_t i = 0; i < crnn_model_parameters(&sizes); i++)
            ALWAYS(isfinite(weights[i]));
    return 0;
}
