/* gru_own_time.c - the passage of our own recurrent layers through time, forward and back: as a loop, or by persistent kernels. */
#include "kernels/cuda/gru_own.h"

typedef crnn_gru_own layer;
typedef crnn_gru_own_pass pass;

/* The state before the span's time step t, and how many of them there is room for: all, or the last and the next. */
static uint16_t *h16_at(const layer *l, int64_t t)
{
    int64_t slot = l->base.s.training ? t : t % 2;
    return l->h16 + slot * l->base.s.B * l->base.s.H;
}

static void forward_persistent(layer *l, const pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t H = s->H, first = p->from * s->B;
    bool kept = s->training && !crnn_gru_own_in_spans(l);
    crnn_persist_forward forward = {.workspace = l->space[0],
                                    .hs = p->hs + first * H,
                                    .h16 = kept ? l->h16 : NULL,
                                    .keep = kept ? l->keep : NULL,
                                    .xp = l->folded ? l->table : l->keep + H,
                                    .tokens = l->folded ? p->in->tokens + first : NULL,
                                    .h_first = crnn_gru_own_h_before(l, p),
                                    .b1 = p->w.b1,
                                    .ldk = 4 * H,
                                    .ldx = l->folded ? 3 * H : 4 * H,
                                    .T = (int32_t)p->steps};
    crnn_cuda_ok(cuda, crnn_persist_launch_forward(&l->plan[0], &forward, cuda->stream));
}

static void forward_loop(layer *l, const pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t B = l->base.s.B, H = l->base.s.H, H3 = 3 * H;
    bool whole = l->base.s.training || !l->folded;
    crnn_cuda_product_shape step = {.M = B, .N = H3, .K = H, .lda = H, .ldb = H3, .ldc = H3};
    const float *h_prev = crnn_gru_own_h_before(l, p);
    step.format = l->bf16 ? CRNN_FORMAT_BF16 : CRNN_FORMAT_FLOAT;
    if (l->bf16)
        crnn_cuda_ok(cuda, crnn_launch_narrow(h16_at(l, 0), 0, CRNN_FORMAT_BF16, 0, h_prev, B * H, cuda->stream));
    for (int64_t t = 0; t < p->steps && !cuda->failure.status; t++) {
        int64_t row = (p->from + t) * B;
        float *keep = l->keep + (whole ? t * B * 4 * H : 0);
        crnn_gates gates = {.h = p->hs + row * H,
                            .h16 = l->bf16 ? h16_at(l, t + 1) : NULL,
                            .keep = keep,
                            .hp = l->hp,
                            .b1 = p->w.b1,
                            .xp = l->folded ? l->table : keep + H,
                            .tokens = l->folded ? p->in->tokens + row : NULL,
                            .h_prev = h_prev,
                            .ldk = 4 * H,
                            .ldx = l->folded ? H3 : 4 * H,
                            .B = l->base.s.B,
                            .H = l->base.s.H};
        crnn_cuda_multiply(cuda, &step, l->hp, l->bf16 ? (const void *)h16_at(l, t) : h_prev,
                           l->bf16 ? (const void *)l->R16 : p->w.R, NULL);
        crnn_cuda_ok(cuda, crnn_launch_gates(&gates, cuda->stream));
        h_prev = gates.h;
    }
}

void crnn_gru_own_forward(crnn_gru_own *l, const crnn_gru_own_pass *p)
{
    if (l->base.cuda->failure.status)
        return;
    if (l->persistent)
        forward_persistent(l, p);
    else
        forward_loop(l, p);
}

static void backward_persistent(layer *l, const pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t H = l->base.s.H, first = p->from * l->base.s.B;
    crnn_persist_backward backward = {.workspace = l->space[1],
                                      .keep = l->keep,
                                      .d = crnn_gru_own_gradients(l, 0),
                                      .dhs = p->dhs + first * H,
                                      .hs = p->hs + first * H,
                                      .h_first = crnn_gru_own_h_before(l, p),
                                      .dh = l->dh,
                                      .ldk = 4 * H,
                                      .ldd = 8 * H,
                                      .T = (int32_t)p->steps,
                                      .doublings = crnn_gru_own_gradient_doublings(l)};
    crnn_cuda_ok(cuda, crnn_persist_launch_backward(&l->plan[1], &backward, cuda->stream));
}

static void backward_loop(layer *l, const pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t B = l->base.s.B, H = l->base.s.H, H3 = 3 * H, ldd = (l->bf16 ? 8 : 4) * H;
    crnn_cuda_product_shape step = {.M = B, .N = H, .K = H3, .lda = ldd, .ldb = H3, .ldc = H, .transpose_b = true};
    step.format = l->format;
    for (int64_t t = p->steps - 1; t >= 0 && !cuda->failure.status; t--) {
        int64_t row = (p->from + t) * B;
        crnn_gates_backward gates = {.dh = l->dh,
                                     .keep = l->keep + t * B * 4 * H,
                                     .d = crnn_gru_own_gradients(l, t),
                                     .back = l->back,
                                     .dhs = p->dhs + row * H,
                                     .h_prev = t ? p->hs + (row - B) * H : crnn_gru_own_h_before(l, p),
                                     .last = p->from + t + 1 == l->base.s.T,
                                     .bf16 = l->bf16,
                                     .ldk = 4 * H,
                                     .ldd = ldd,
                                     .B = l->base.s.B,
                                     .H = l->base.s.H};
        crnn_cuda_ok(cuda, crnn_launch_gates_backward(&gates, cuda->stream));
        if (row)
            crnn_cuda_multiply(cuda, &step, l->back, gates.d, l->bf16 ? (const void *)l->R16 : p->w.R, NULL);
    }
}

void crnn_gru_own_backward(crnn_gru_own *l, const crnn_gru_own_pass *p)
{
    if (l->base.cuda->failure.status)
        return;
    if (l->persistent)
        backward_persistent(l, p);
    else
        backward_loop(l, p);
}
