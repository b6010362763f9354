/* gru_own_time.c - the passage of our own recurrent layers through time, forward and back: as a loop, or by persistent kernels. */
#include "kernels/cuda/gru_own.h"

typedef crnn_gru_own layer;
typedef crnn_gru_own_pass pass;

/* The state before the span's time step t; there is room for all of them, or for the last and the next. */
static crnn_narrow state_at(const layer *l, const pass *p, int64_t t)
{
    return crnn_gru_own_states(l, l->base.s.training ? t : t % 2, p->steps);
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
    const float *h_prev = crnn_gru_own_h_before(l, p);
    crnn_cuda_ok(cuda, crnn_launch_narrow(state_at(l, p, 0), h_prev, B, H, cuda->stream));
    for (int64_t t = 0; t < p->steps && !cuda->failure.status; t++) {
        int64_t row = (p->from + t) * B;
        float *keep = l->keep + (whole ? t * B * 4 * H : 0);
        crnn_gates gates = {.h = p->hs + row * H,
                            .h16 = state_at(l, p, t + 1),
                            .keep = keep,
                            .hp = {l->hp, crnn_gru_own_pieces(l, H), crnn_gru_own_halves(l)},
                            .b1 = p->w.b1,
                            .xp = l->folded ? l->table : keep + H,
                            .tokens = l->folded ? p->in->tokens + row : NULL,
                            .h_prev = h_prev,
                            .ldk = 4 * H,
                            .ldx = l->folded ? H3 : 4 * H,
                            .B = l->base.s.B,
                            .H = l->base.s.H};
        crnn_gru_own_step(l, l->hp, state_at(l, p, t), false);
        if (!cuda->failure.status)
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
    crnn_narrow d = crnn_gru_own_gradients(l, 0);
    crnn_persist_backward backward = {.workspace = l->space[1],
                                      .keep = l->keep,
                                      .d = d.at,
                                      .dhs = p->dhs + first * H,
                                      .hs = p->hs + first * H,
                                      .h_first = crnn_gru_own_h_before(l, p),
                                      .dh = l->dh,
                                      .ldk = 4 * H,
                                      .ldd = d.ld,
                                      .T = (int32_t)p->steps,
                                      .doublings = d.doublings};
    crnn_cuda_ok(cuda, crnn_persist_launch_backward(&l->plan[1], &backward, cuda->stream));
}

static void backward_loop(layer *l, const pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t B = l->base.s.B, H = l->base.s.H;
    for (int64_t t = p->steps - 1; t >= 0 && !cuda->failure.status; t--) {
        int64_t row = (p->from + t) * B;
        crnn_gates_backward gates = {.dh = l->dh,
                                     .keep = l->keep + t * B * 4 * H,
                                     .d = crnn_gru_own_gradients(l, t),
                                     .back = {l->back, crnn_gru_own_pieces(l, 3 * H), crnn_gru_own_halves(l)},
                                     .dhs = p->dhs + row * H,
                                     .h_prev = t ? p->hs + (row - B) * H : crnn_gru_own_h_before(l, p),
                                     .last = p->from + t + 1 == l->base.s.T,
                                     .ldk = 4 * H,
                                     .B = l->base.s.B,
                                     .H = l->base.s.H};
        crnn_cuda_ok(cuda, crnn_launch_gates_backward(&gates, cuda->stream));
        if (row)
            crnn_gru_own_step(l, l->back, gates.d, true);
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
