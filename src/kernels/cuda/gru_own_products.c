/* gru_own_products.c - what our own recurrent layers compute over all time steps at once: the input's part of the gates before the passage
 * through time, the gradients of weights and input after it. */
#include "kernels/cuda/gru_own.h"

typedef crnn_gru_own layer;
typedef crnn_gru_own_parts parts;

/* --- factors in the layer's format ------------------------------------------------------------------------------------ */

/* [rows,columns] without gaps: floats, or their copy in the format. */
static crnn_matrix dense(const layer *l, const float *floats, const uint16_t *narrow, int64_t rows, int64_t columns)
{
    if (!crnn_gru_own_halves(l))
        return crnn_floats(floats, columns);
    return (crnn_matrix){narrow, columns, rows * columns, l->format, l->doublings};
}

static crnn_matrix gradients_from(const layer *l, int64_t part)
{
    int64_t H = l->base.s.H;
    void *d = crnn_gru_own_gradients(l, 0);
    if (!crnn_gru_own_halves(l))
        return crnn_floats((float *)d + part * H, 4 * H);
    return (crnn_matrix){(uint16_t *)d + part * H, 8 * H, 4 * H, l->format, crnn_gru_own_gradient_doublings(l)};
}

static crnn_matrix input_of(const layer *l, const crnn_gru_input *in)
{
    return dense(l, l->x ? l->x : in->x, l->x16, (int64_t)l->base.s.T * l->base.s.B, l->base.s.I);
}

static crnn_matrix kernel_of(const layer *l, const parts *p)
{
    return dense(l, p->K, l->K16, l->base.s.I, 3 * (int64_t)l->base.s.H);
}

/* From row i and item j on; a transposed factor of a product runs over its rows. */
static const void *at(const crnn_matrix *m, int64_t i, int64_t j)
{
    int64_t item = i * m->ld + j;
    return m->format == CRNN_FORMAT_FLOAT ? (const void *)((const float *)m->at + item)
                                          : (const void *)((const uint16_t *)m->at + item);
}

/* Low times high and high times low first, as they are small. Tensor cores cut a sum off where they should round it, by up to 2^-24 of it
 * at each 16 numbers: in this precision, long sums over rows are made in pieces that are put together outside of them. */
static void multiply_split(crnn_cuda *cuda, crnn_cuda_product_shape *shape, float *C, const crnn_matrix *A,
                           const crnn_matrix *B, const float *bias)
{
    const int64_t piece = 2048, K = shape->K;
    bool over_rows = shape->transpose_a && !shape->transpose_b;
    shape->format = CRNN_FORMAT_FP16;
    for (int64_t k = 0; k < K; k += shape->K) {
        shape->K = over_rows && K - k > piece ? piece : K - k;
        for (int product = 0; product < 3; product++) {
            crnn_cuda_multiply(cuda, shape, C, at(A, k, product == 0 ? A->low : 0), at(B, k, product == 1 ? B->low : 0),
                               bias);
            shape->accumulate = true;
            bias = NULL;
        }
    }
}

/* C = op(A) op(B) (+ C, or + bias), with factors in any one format; of shape, M, N, K, ldc, and what is transposed. */
static void multiply(layer *l, crnn_cuda_product_shape shape, float *C, crnn_matrix A, crnn_matrix B, const float *bias)
{
    shape.lda = A.ld;
    shape.ldb = B.ld;
    shape.halvings = A.doublings + B.doublings;
    shape.format = A.format;
    if (A.format == CRNN_FORMAT_SPLIT)
        multiply_split(l->base.cuda, &shape, C, &A, &B, bias);
    else
        crnn_cuda_multiply(l->base.cuda, &shape, C, A.at, B.at, bias);
}

static void narrow(layer *l, uint16_t *to, const float *from, int64_t n)
{
    crnn_cuda *cuda = l->base.cuda;
    if (to && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_narrow(to, l->format, l->doublings, from, n, cuda->stream));
}

/* --- before the passage ------------------------------------------------------------------------------------------------ */

void crnn_gru_own_prepare(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *p)
{
    int64_t H = l->base.s.H, H3 = 3 * H, I = l->base.s.I, V = l->base.s.V;
    if (l->folded)
        multiply(l, (crnn_cuda_product_shape){.M = V, .N = H3, .K = I, .ldc = H3}, l->table,
                 crnn_floats(in->embeddings, I), crnn_floats(p->K, H3), p->b0);
    narrow(l, l->R16, p->R, H * H3);
    narrow(l, l->K16, p->K, I * H3);
}

/* Parts 1 to 3 of keep become x K + b0. */
void crnn_gru_own_project(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = (int64_t)s->T * s->B, H = s->H;
    if (l->x)
        crnn_cuda_ok(cuda, crnn_launch_embed(l->x, in->tokens, in->embeddings, n, s->I, cuda->stream));
    narrow(l, l->x16, l->x ? l->x : in->x, n * s->I);
    multiply(l, (crnn_cuda_product_shape){.M = n, .N = 3 * H, .K = s->I, .ldc = 4 * H}, l->keep + H, input_of(l, in),
             kernel_of(l, p), p->b0);
}

/* --- after it ---------------------------------------------------------------------------------------------------------- */

/* dR = the states before each time step, transposed, times d. */
static void recurrent_gradient(layer *l, float *dR, const float *hs, const float *h_first)
{
    int64_t T = l->base.s.T, B = l->base.s.B, H = l->base.s.H;
    crnn_matrix d = gradients_from(l, 0);
    crnn_cuda_product_shape shape = {.M = H, .N = 3 * H, .K = T * B, .ldc = 3 * H, .transpose_a = true};
    if (l->h16) { /* where h_first and the states lie one after the other */
        multiply(l, shape, dR, (crnn_matrix){l->h16, H, (T + 1) * B * H, l->format, l->doublings}, d, NULL);
        return;
    }
    shape.K = B;
    multiply(l, shape, dR, crnn_floats(h_first, H), d, NULL);
    shape.K = (T - 1) * B;
    shape.accumulate = true;
    d.at = at(&d, B, 0);
    if (shape.K)
        multiply(l, shape, dR, crnn_floats(hs, H), d, NULL);
}

/* Of the input's side, from parts 1 to 3: K, b0, and the input itself. */
static void folded_gradients(layer *l, float *din, const parts *d, const crnn_gru_input *in, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t H3 = 3 * (int64_t)s->H, I = s->I, V = s->V;
    crnn_matrix sums = crnn_floats(l->dtable, H3);
    crnn_cuda_ok(cuda, crnn_launch_sum_by_token(l->dtable, gradients_from(l, 1), in->tokens, (int64_t)s->T * s->B, s->V,
                                                (int32_t)H3, cuda->stream));
    multiply(l, (crnn_cuda_product_shape){.M = I, .N = H3, .K = V, .ldc = H3, .transpose_a = true}, d->K,
             crnn_floats(in->embeddings, I), sums, NULL);
    multiply(l, (crnn_cuda_product_shape){.M = V, .N = I, .K = H3, .ldc = I, .transpose_b = true}, din, sums,
             crnn_floats(p->K, H3), NULL);
    crnn_cuda_ok(cuda, crnn_launch_column_sums(d->b0, sums, V, (int32_t)H3, cuda->stream));
}

static void input_gradients(layer *l, float *din, const parts *d, const crnn_gru_input *in, const parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = (int64_t)s->T * s->B, H3 = 3 * (int64_t)s->H, I = s->I;
    crnn_matrix gx = gradients_from(l, 1);
    multiply(l, (crnn_cuda_product_shape){.M = I, .N = H3, .K = n, .ldc = H3, .transpose_a = true}, d->K,
             input_of(l, in), gx, NULL);
    crnn_cuda_ok(cuda, crnn_launch_column_sums(d->b0, gx, n, (int32_t)H3, cuda->stream));
    float *dx = l->x ? l->x : din; /* the embedded input is of no further use */
    if (dx)
        multiply(l, (crnn_cuda_product_shape){.M = n, .N = I, .K = H3, .ldc = I, .transpose_b = true}, dx, gx,
                 kernel_of(l, p), NULL);
    if (l->x && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_sum_by_token(din, crnn_floats(dx, I), in->tokens, n, s->V, s->I, cuda->stream));
}

void crnn_gru_own_gradients_of(crnn_gru_own *l, float *din, const crnn_gru_own_parts *d, const float *hs,
                               const crnn_gru_input *in, const float *h_first, const crnn_gru_own_parts *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    recurrent_gradient(l, d->R, hs, h_first);
    if (cuda->failure.status)
        return;
    crnn_cuda_ok(cuda,
                 crnn_launch_column_sums(d->b1, gradients_from(l, 0), (int64_t)s->T * s->B, 3 * s->H, cuda->stream));
    if (l->folded)
        folded_gradients(l, din, d, in, p);
    else
        input_gradients(l, din, d, in, p);
}
