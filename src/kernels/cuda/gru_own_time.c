/* gru_own_time.c - the passage of our own recurrent layers through time, forward and back: as a loop, or by persistent kernels. */
#include "kernels/cuda/gru_own.h"

typedef crnn_gru_own layer;
typedef crnn_gru_own_parts parts;

/* The state before time step t, and how many of them there is room for: all, or the last and the next. */
static uint16_t *h16_at(const layer *l, int64_t t)
{
    int64_t slot = l->base.s.training ? t : t % 2;
    return l->h16 + slot * l->base.s.B * l->base.s.H;
}

static void forward_persistent(layer *l, float *hs, const crnn_gru_input *in, const float *h_first, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t H = s->H;
    crnn_persist_forward pass = {.workspace = l->space[0],
                                 .hs = hs,
                                 .h16 = l->h16,
                                 .keep = s->training ? l->keep : NULL,
                                 .xp = l->folded ? l->table : l->keep + H,
                                 .tokens = l->folded ? in->tokens : NULL,
                                 .h_first = h_first,
                                 .b1 = p->b1,
                                 .ldk = 4 * H,
                                 .ldx = l->folded ? 3 * H : 4 * H,
                                 .T = s->T};
    crnn_cuda_ok(cuda, crnn_persist_launch_forward(&l->plan[0], &pass, cuda->stream));
}

static void forward_loop(layer *l, float *hs, const crnn_gru_input *in, const float *h_first, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t T = l->base.s.T, B = l->base.s.B, H = l->base.s.H, H3 = 3 * H;
    bool whole = l->base.s.training || !l->folded;
    crnn_cuda_product_shape step = {.M = B, .N = H3, .K = H, .lda = H, .ldb = H3, .ldc = H3};
    step.format = l->bf16 ? CRNN_FORMAT_BF16 : CRNN_FORMAT_FLOAT;
    if (l->bf16)
        crnn_cuda_ok(cuda, crnn_launch_narrow(h16_at(l, 0), CRNN_FORMAT_BF16, 0, h_first, B * H, cuda->stream));
    for (int64_t t = 0; t < T && !cuda->failure.status; t++) {
        const float *h_prev = t ? hs + (t - 1) * B * H : h_first;
        float *keep = l->keep + (whole ? t * B * 4 * H : 0);
        crnn_gates gates = {.h = hs + t * B * H,
                            .h16 = l->bf16 ? h16_at(l, t + 1) : NULL,
                            .keep = keep,
                            .hp = l->hp,
                            .b1 = p->b1,
                            .xp = l->folded ? l->table : keep + H,
                            .tokens = l->folded ? in->tokens + t * B : NULL,
                            .h_prev = h_prev,
                            .ldk = 4 * H,
                            .ldx = l->folded ? H3 : 4 * H,
                            .B = l->base.s.B,
                            .H = l->base.s.H};
        crnn_cuda_multiply(cuda, &step, l->hp, l->bf16 ? (const void *)h16_at(l, t) : h_prev,
                           l->bf16 ? (const void *)l->R16 : p->R, NULL);
        crnn_cuda_ok(cuda, crnn_launch_gates(&gates, cuda->stream));
    }
}

void crnn_gru_own_forward(crnn_gru_own *l, float *hs, const crnn_gru_input *in, const float *h_first,
                          const crnn_gru_own_parts *p)
{
    if (l->base.cuda->failure.status)
        return;
    if (l->persistent)
        forward_persistent(l, hs, in, h_first, p);
    else
        forward_loop(l, hs, in, h_first, p);
}

static void backward_persistent(layer *l, const float *dhs, const float *hs, const float *h_first)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t H = l->base.s.H;
    crnn_persist_backward pass = {.workspace = l->space[1],
                                  .keep = l->keep,
                                  .d = crnn_gru_own_gradients(l, 0),
                                  .dhs = dhs,
                                  .hs = hs,
                                  .h_first = h_first,
                                  .ldk = 4 * H,
                                  .ldd = 8 * H,
                                  .T = l->base.s.T,
                                  .doublings = crnn_gru_own_gradient_doublings(l)};
    crnn_cuda_ok(cuda, crnn_persist_launch_backward(&l->plan[1], &pass, cuda->stream));
}

static void backward_loop(layer *l, const float *dhs, const float *hs, const float *h_first, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t T = l->base.s.T, B = l->base.s.B, H = l->base.s.H, H3 = 3 * H, ldd = (l->bf16 ? 8 : 4) * H;
    crnn_cuda_product_shape step = {.M = B, .N = H, .K = H3, .lda = ldd, .ldb = H3, .ldc = H, .transpose_b = true};
    step.format = l->format;
    for (int64_t t = T - 1; t >= 0 && !cuda->failure.status; t--) {
        crnn_gates_backward gates = {.dh = l->dh,
                                     .keep = l->keep + t * B * 4 * H,
                                     .d = crnn_gru_own_gradients(l, t),
                                     .back = l->hp,
                                     .dhs = dhs + t * B * H,
                                     .h_prev = t ? hs + (t - 1) * B * H : h_first,
                                     .last = t == T - 1,
                                     .bf16 = l->bf16,
                                     .ldk = 4 * H,
                                     .ldd = ldd,
                                     .B = l->base.s.B,
                                     .H = l->base.s.H};
        crnn_cuda_ok(cuda, crnn_launch_gates_backward(&gates, cuda->stream));
        if (t)
            crnn_cuda_multiply(cuda, &step, l->hp, gates.d, l->bf16 ? (const void *)l->R16 : p->R, NULL);
    }
}

void crnn_gru_own_backward(crnn_gru_own *l, const float *dhs, const float *hs, const float *h_first,
                           const crnn_gru_own_parts *p)
{
    if (l->base.cuda->failure.status)
        return;
    if (l->persistent)
        backward_persistent(l, dhs, hs, h_first);
    else
        backward_loop(l, dhs, hs, h_first, p);
}
