/* gru.c - a recurrent layer: which of the ways computes it, and what all of them share. */
#include "kernels/cuda/cuda.h"
#include <string.h>

const crnn_gru_named_way crnn_gru_ways[CRNN_GRU_WAYS] = {
    {"cudnn", &crnn_gru_cudnn},
    {"cudnn-persist-static", &crnn_gru_cudnn},
    {"cudnn-persist-dynamic", &crnn_gru_cudnn},
    {"cudnn-persist-small", &crnn_gru_cudnn},
    {"loop", &crnn_gru_loop},
    {"persist", &crnn_gru_persist},
    {"persist-cluster", &crnn_gru_persist_cluster},
    {"persist-words", &crnn_gru_persist_words},
};

const crnn_gru_named_way *crnn_cuda_way(const char *name, crnn_error *err)
{
    if (!name || strcmp(name, "auto") == 0)
        return &crnn_gru_ways[0];
    for (size_t i = 0; i < CRNN_GRU_WAYS; i++)
        if (strcmp(crnn_gru_ways[i].name, name) == 0)
            return &crnn_gru_ways[i];
    crnn_fail(err, CRNN_ERR_ARGUMENT,
              "unknown --rnn-algo for a CUDA GPU; it knows: auto, cudnn, cudnn-persist-static, cudnn-persist-dynamic, "
              "cudnn-persist-small, loop, persist, persist-cluster, persist-words");
    return NULL;
}

void crnn_cuda_take_way(crnn_cuda *cuda, const crnn_gru_named_way *way)
{
    cuda->config.rnn_algo = way->name;
    cuda->way = way->way;
}

bool crnn_cuda_could_fit(crnn_cuda *cuda, const crnn_gru_shape *s)
{
    size_t left = 0, total = 0;
    double width = (double)s->I + s->H, need = 4.0 * s->T * s->B * width + 12.0 * s->H * width;
    if (!crnn_cuda_ok(cuda, cudaMemGetInfo(&left, &total)))
        return false;
    if (need <= (double)total)
        return true;
    crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "a layer of this size is larger than the GPU's memory");
    return false;
}

crnn_gru *crnn_cuda_gru_new(crnn_backend *be, const crnn_gru_shape *shape)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    if (!crnn_cuda_begin(cuda, "gru_new") || !crnn_cuda_could_fit(cuda, shape))
        return NULL;
    crnn_gru *g = cuda->way->make(cuda, shape);
    if (!g)
        return NULL;
    g->next = cuda->layers;
    cuda->layers = g;
    return g;
}

void crnn_cuda_gru_free(crnn_gru *g)
{
    if (!g)
        return;
    crnn_gru **link = &g->cuda->layers;
    while (*link != g)
        link = &(*link)->next;
    *link = g->next;
    g->way->free(g);
}

int64_t crnn_cuda_gru_params(const crnn_gru *g)
{
    return g->way->params(g);
}

void crnn_cuda_gru_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias)
{
    if (!crnn_cuda_begin(g->cuda, "gru_pack"))
        return;
    crnn_cuda_touched(g->cuda, w, (size_t)crnn_cuda_gru_params(g) * sizeof *w);
    g->way->pack(g, w, kernel, recurrent, bias);
}

void crnn_cuda_gru_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w)
{
    if (crnn_cuda_begin(g->cuda, "gru_unpack"))
        g->way->unpack(g, kernel, recurrent, bias, w);
}

/* Whether updates write a layer's copies: they do for one layer of each R. */
static bool is_kept(const crnn_gru *g, const float *w)
{
    if (!g->s.training || !g->way->copies)
        return false;
    for (const crnn_gru *other = g->cuda->layers; other; other = other->next)
        if (other != g && other->kept && other->last_w == w)
            return false;
    return true;
}

static void pack_copies(crnn_gru *g, const float *w)
{
    crnn_cuda *cuda = g->cuda;
    const crnn_persist_copies copies = g->way->copies(g, w);
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_persist_pack(&copies, crnn_persist_precision_of(cuda->config.precision), cuda->stream));
    if (g->last_w == w)
        return;
    g->last_w = w;
    g->kept = is_kept(g, w);
    crnn_cuda_forget_lists(cuda); /* in which an update knows nothing of these copies */
}

void crnn_cuda_gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                           const float *w)
{
    crnn_cuda *cuda = g->cuda;
    size_t one = (size_t)g->s.B * (size_t)g->s.H;
    const float *last = hs + ((size_t)g->s.T - 1) * one;
    if (!crnn_cuda_begin(cuda, "gru_forward"))
        return;
    if (g->s.training || g->seen_w != w || g->seen_embeddings != in->embeddings)
        g->way->prepare(g, in, w);
    if (g->way->copies && g->seen_w != w)
        pack_copies(g, w);
    g->seen_w = g->s.training && !g->kept ? NULL : w;
    g->seen_embeddings = in->embeddings;
    g->way->forward(g, hs, in, h_first, w);
    if (h_last != last)
        crnn_cuda_ok(cuda, cudaMemcpyAsync(h_last, last, one * sizeof *hs, cudaMemcpyDeviceToDevice, cuda->stream));
}

/* Those that an update of w [n] writes, of the layer. */
static bool copies_within(crnn_persist_copies *copies, const crnn_gru *g, const float *w, int64_t n)
{
    if (!g->kept)
        return false;
    *copies = g->way->copies(g, g->last_w);
    return (uintptr_t)copies->R >= (uintptr_t)w && copies->R + copies->H * copies->ldr <= w + n;
}

void crnn_cuda_copies(crnn_cuda *cuda, crnn_gpu_update *update, int64_t n)
{
    int64_t from = update->from;
    update->count = 0;
    update->to = n;
    update->precision = crnn_persist_precision_of(cuda->config.precision);
    for (bool found = true; found;) { /* the next in memory */
        crnn_persist_copies next, copies;
        found = false;
        for (const crnn_gru *g = cuda->layers; g; g = g->next)
            if (copies_within(&copies, g, update->w, n) && copies.R >= update->w + from &&
                (!found || copies.R < next.R)) {
                next = copies;
                found = true;
            }
        if (found && update->count == CRNN_GPU_COPIES) {
            update->to = next.R - update->w;
            return;
        }
        if (found) {
            update->copies[update->count++] = next;
            from = next.R - update->w + next.H * next.ldr;
        }
    }
}

void crnn_cuda_updated(crnn_cuda *cuda, const float *w, int64_t n)
{
    crnn_persist_copies copies;
    for (crnn_gru *g = cuda->layers; g; g = g->next)
        if (!copies_within(&copies, g, w, n))
            crnn_cuda_stale(g, w, (size_t)n * sizeof *w);
}

void crnn_cuda_gru_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                            const crnn_gru_input *in, const float *h_first, const float *w)
{
    if (crnn_cuda_begin(g->cuda, "gru_backward"))
        g->way->backward(g, din, dw, dhs, hs, in, h_first, w);
}

double crnn_cuda_gru_flop(const crnn_gru *g, bool backward)
{
    return g->way->flop(g, backward);
}
