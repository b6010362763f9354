/* The table of canonical tensors, and what Keras prints of it. */
#include "host/base/memory.h"
#include <crnn/model.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    crnn_tensor_info *tensors;
    int count, max;
    int64_t offset;
} table;

static void add(table *t, const char *layer, const char *name, int64_t rows, int64_t columns)
{
    crnn_tensor_info tensor = {.rank = rows ? 2 : 1, .offset = t->offset, .count = (rows ? rows : 1) * columns};
    tensor.shape[0] = rows ? rows : columns;
    tensor.shape[1] = rows ? columns : 0;
    snprintf(tensor.name, sizeof tensor.name, "%s/%s", layer, name);
    if (t->count < t->max)
        t->tensors[t->count] = tensor;
    t->count++;
    t->offset += tensor.count;
}

int crnn_model_tensors(crnn_tensor_info *tensors, int max, const crnn_model_sizes *sizes)
{
    table t = {.tensors = tensors, .max = max};
    int64_t H = sizes->H, V = sizes->V;
    add(&t, "embedding", "embeddings", V, sizes->E);
    for (int32_t l = 0; l < sizes->L; l++) {
        char layer[24] = "gru";
        if (l)
            snprintf(layer, sizeof layer, "gru_%d", (int)l);
        add(&t, layer, "kernel", l ? H : sizes->E, 3 * H);
        add(&t, layer, "recurrent_kernel", H, 3 * H);
        add(&t, layer, "bias", 2, 3 * H);
    }
    add(&t, "dense", "kernel", H, V);
    add(&t, "dense", "bias", 0, V);
    return t.count;
}

int64_t crnn_model_parameters(const crnn_model_sizes *sizes)
{
    int64_t E = sizes->E, H = sizes->H, V = sizes->V, L = sizes->L;
    return V * E + 3 * H * (E + H + 2) + (L - 1) * 3 * H * (2 * H + 2) + H * V + V;
}

/* 1234567 as 1,234,567. */
static void with_commas(char out[32], int64_t value)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRId64, value), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
}

typedef struct {
    char *out;
    size_t size, used; /* used may pass size: then it only counts */
} page;

static void row(page *p, const char *layer, const char *shape, const char *parameters)
{
    size_t room = p->used < p->size ? p->size - p->used : 0;
    int written = snprintf(room ? p->out + p->used : NULL, room, " %-27s %-25s %s\n", layer, shape, parameters);
    p->used += (size_t)written;
}

static void text(page *p, const char *line)
{
    size_t room = p->used < p->size ? p->size - p->used : 0;
    p->used += (size_t)snprintf(room ? p->out + p->used : NULL, room, "%s\n", line);
}

static void layer_row(page *p, const char *name, const char *type, int32_t B, int32_t width, int64_t parameters)
{
    char layer[64], shape[64], count[32];
    snprintf(layer, sizeof layer, "%s (%s)", name, type);
    snprintf(shape, sizeof shape, "(%d, None, %d)", (int)B, (int)width);
    snprintf(count, sizeof count, "%" PRId64, parameters);
    row(p, layer, shape, count);
}

size_t crnn_model_summary(char *out, size_t size, const crnn_model_sizes *sizes, int32_t B)
{
    static const char thin[] = "_________________________________________________________________";
    static const char thick[] = "=================================================================";
    page p = {out, size, 0};
    char total[32], line[96];
    int64_t H = sizes->H, V = sizes->V, E = sizes->E;
    text(&p, "Model: \"sequential\"");
    text(&p, thin);
    row(&p, "Layer (type)", "Output Shape", "Param #");
    text(&p, thick);
    layer_row(&p, "embedding", "Embedding", B, sizes->E, V * E);
    for (int32_t l = 0; l < sizes->L; l++) {
        char name[24] = "gru";
        if (l)
            snprintf(name, sizeof name, "gru_%d", (int)l);
        layer_row(&p, name, "GRU", B, sizes->H, 3 * H * ((l ? H : E) + H + 2));
    }
    layer_row(&p, "dense", "Dense", B, sizes->V, (H + 1) * V);
    text(&p, thick);
    with_commas(total, crnn_model_parameters(sizes));
    snprintf(line, sizeof line, "Total params: %s", total);
    text(&p, line);
    snprintf(line, sizeof line, "Trainable params: %s", total);
    text(&p, line);
    text(&p, "Non-trainable params: 0");
    text(&p, thin);
    return p.used;
}
