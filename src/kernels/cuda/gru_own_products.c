/* gru_own_products.c - what our own recurrent layers compute over all time steps at once: the input's part of the gates before the passage
 * through time, the gradients of weights and input after it. */
#include "kernels/cuda/gru_own.h"

typedef crnn_gru_own layer;
typedef crnn_gru_own_pass pass;

/* --- factors in the layer's format ------------------------------------------------------------------------------------ */

static crnn_matrix gradients_from(const layer *l, int64_t part)
{
    crnn_narrow d = crnn_gru_own_gradients(l, 0);
    d.at += part * l->base.s.H;
    return crnn_gru_own_read(d);
}

static const float *input_rows(const layer *l, const pass *p)
{
    return l->x ? l->x : p->in->x + p->from * l->base.s.B * l->base.s.I;
}

static crnn_narrow input_of(const layer *l, const pass *p)
{
    return crnn_gru_own_dense(l, l->x16, p->steps * l->base.s.B, l->base.s.I);
}

static crnn_narrow kernel_of(const layer *l)
{
    return crnn_gru_own_dense(l, l->K16, l->base.s.I, 3 * (int64_t)l->base.s.H);
}

static crnn_matrix recurrent_of(const layer *l)
{
    int64_t H = l->base.s.H;
    return crnn_gru_own_read(crnn_gru_own_dense(l, l->R16, H, 3 * H));
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
    const int64_t piece = cuda->longest_sum ? cuda->longest_sum : CRNN_LONGEST_SUM, K = shape->K;
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

static void narrow(layer *l, crnn_narrow to, const float *from, int64_t rows, int64_t columns)
{
    crnn_cuda *cuda = l->base.cuda;
    if (rows && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_narrow(to, from, rows, columns, cuda->stream));
}

/* The states before each of the span's time steps. */
static crnn_matrix states_of(const layer *l, const pass *p)
{
    return crnn_gru_own_read(crnn_gru_own_states(l, 0, p->steps));
}

/* --- before the passage ------------------------------------------------------------------------------------------------ */

void crnn_gru_own_prepare(crnn_gru_own *l, const crnn_gru_input *in, const crnn_gru_own_parts *w)
{
    int64_t H3 = 3 * (int64_t)l->base.s.H, I = l->base.s.I, V = l->base.s.V;
    if (l->folded)
        multiply(l, (crnn_cuda_product_shape){.M = V, .N = H3, .K = I, .ldc = H3}, l->table,
                 crnn_floats(in->embeddings, I), crnn_floats(w->K, H3), w->b0);
    else
        narrow(l, kernel_of(l), w->K, I, H3);
}

/* A product that is cut over K is one of products side by side, but for a last piece that is shorter. */
static void multiply_pieces(crnn_cuda *cuda, crnn_cuda_product_shape shape, float *C, crnn_matrix A, crnn_matrix B,
                            int32_t pieces)
{
    const int64_t K = shape.K, length = pieces == 1 ? K : ((K + pieces - 1) / pieces + 7) / 8 * 8;
    const bool equal = pieces * length == K;
    shape.K = length;
    shape.batch = equal ? pieces : pieces - 1;
    shape.step_a = length;
    shape.step_b = shape.transpose_b ? length : length * B.ld;
    crnn_cuda_multiply(cuda, &shape, C, A.at, B.at, NULL);
    if (equal)
        return;
    const int64_t done = shape.batch * length;
    C += shape.batch * shape.step_c;
    shape.K = K - done;
    shape.batch = 1;
    crnn_cuda_multiply(cuda, &shape, C, at(&A, 0, done), shape.transpose_b ? at(&B, 0, done) : at(&B, done, 0), NULL);
}

void crnn_gru_own_step(crnn_gru_own *l, float *sums, crnn_narrow from, bool back)
{
    const int64_t rows = l->base.s.B, H = l->base.s.H, N = back ? H : 3 * H, halves = crnn_gru_own_halves(l);
    crnn_matrix A = crnn_gru_own_read(from), R = recurrent_of(l);
    crnn_cuda_product_shape shape = {.M = halves * rows,
                                     .N = N,
                                     .K = back ? 3 * H : H,
                                     .lda = A.ld / halves,
                                     .ldb = R.ld,
                                     .ldc = N,
                                     .transpose_b = back,
                                     .format = l->format == CRNN_FORMAT_SPLIT ? CRNN_FORMAT_FP16 : l->format,
                                     .halvings = A.doublings + R.doublings,
                                     .step_c = halves * rows * N};
    const int32_t pieces = crnn_gru_own_pieces(l, shape.K);
    multiply_pieces(l->base.cuda, shape, sums, A, R, pieces);
    if (halves == 1)
        return;
    R.at = at(&R, 0, R.low);
    shape.M = rows;
    shape.lda = A.ld;
    shape.ldc = 2 * N;
    shape.accumulate = true;
    multiply_pieces(l->base.cuda, shape, sums + N, A, R, pieces);
}

/* Parts 1 to 3 of keep become x K + b0. */
void crnn_gru_own_project(crnn_gru_own *l, const crnn_gru_own_pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = p->steps * s->B, H = s->H, first = p->from * s->B;
    if (l->x && !cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_embed(l->x, p->in->tokens + first, p->in->embeddings, n, s->I, cuda->stream));
    narrow(l, input_of(l, p), input_rows(l, p), n, s->I);
    multiply(l, (crnn_cuda_product_shape){.M = n, .N = 3 * H, .K = s->I, .ldc = 4 * H}, l->keep + H,
             crnn_gru_own_read(input_of(l, p)), crnn_gru_own_read(kernel_of(l)), p->w.b0);
}

void crnn_gru_own_gates(crnn_gru_own *l, const crnn_gru_own_pass *p)
{
    crnn_cuda *cuda = l->base.cuda;
    int64_t B = l->base.s.B, H = l->base.s.H, H3 = 3 * H, first = p->from * B, rows = p->steps * B;
    if (!l->folded)
        crnn_gru_own_project(l, p);
    narrow(l, crnn_gru_own_states(l, 0, p->steps), crnn_gru_own_h_before(l, p), B, H);
    narrow(l, crnn_gru_own_states(l, 1, p->steps), p->hs + first * H, rows - B, H);
    multiply(l, (crnn_cuda_product_shape){.M = rows, .N = H3, .K = H, .ldc = H3}, l->hp, states_of(l, p),
             recurrent_of(l), NULL);
    crnn_gates gates = {.h16 = {.format = l->format},
                        .keep = l->keep,
                        .hp = {l->hp, 1, 1},
                        .b1 = p->w.b1,
                        .xp = l->folded ? l->table : l->keep + H,
                        .tokens = l->folded ? p->in->tokens + first : NULL,
                        .ldk = 4 * H,
                        .ldx = l->folded ? H3 : 4 * H,
                        .B = (int32_t)rows,
                        .H = l->base.s.H};
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_gates(&gates, cuda->stream));
}

/* --- after it ---------------------------------------------------------------------------------------------------------- */

static void sum_columns(layer *l, float *to, bool add, crnn_matrix from, int64_t rows)
{
    crnn_cuda *cuda = l->base.cuda;
    if (!cuda->failure.status)
        crnn_cuda_ok(cuda, crnn_launch_column_sums(to, add, from, rows, 3 * l->base.s.H, cuda->stream));
}

/* Rows of the span, by character. */
static void sum_by_token(layer *l, const pass *p, float *to, bool add, crnn_matrix from, int64_t columns)
{
    const crnn_gru_shape *s = &l->base.s;
    crnn_cuda_sum_by_token(l->base.cuda, to, add, from, p->in->tokens + p->from * s->B, p->steps * s->B, s->V,
                           (int32_t)columns);
}

/* Of the input's side, from parts 1 to 3: K, b0, and the input itself. */
static void input_gradients(layer *l, const pass *p, bool begun)
{
    const crnn_gru_shape *s = &l->base.s;
    int64_t n = p->steps * s->B, H3 = 3 * (int64_t)s->H, I = s->I;
    crnn_matrix gx = gradients_from(l, 1);
    crnn_cuda_product_shape dK = {.M = I, .N = H3, .K = n, .ldc = H3, .transpose_a = true, .accumulate = begun};
    crnn_cuda_product_shape dX = {.M = n, .N = I, .K = H3, .ldc = I, .transpose_b = true};
    multiply(l, dK, p->d.K, crnn_gru_own_read(input_of(l, p)), gx, NULL);
    sum_columns(l, p->d.b0, begun, gx, n);
    if (l->x) { /* the embedded input is of no further use */
        multiply(l, dX, l->x, gx, crnn_gru_own_read(kernel_of(l)), NULL);
        sum_by_token(l, p, p->din, begun, crnn_floats(l->x, I), I);
    } else if (p->din) {
        multiply(l, dX, p->din + p->from * s->B * I, gx, crnn_gru_own_read(kernel_of(l)), NULL);
    }
}

void crnn_gru_own_gradients_of(crnn_gru_own *l, const crnn_gru_own_pass *p, bool begun)
{
    int64_t H = l->base.s.H, H3 = 3 * H;
    crnn_matrix gh = gradients_from(l, 0);
    crnn_cuda_product_shape dR = {
        .M = H, .N = H3, .K = p->steps * l->base.s.B, .ldc = H3, .transpose_a = true, .accumulate = begun};
    multiply(l, dR, p->d.R, states_of(l, p), gh, NULL);
    if (l->folded) { /* of all four parts: the biases' gradients are sums of the table's, which has few rows */
        sum_by_token(l, p, l->dtable, begun, gh, 4 * H);
        return;
    }
    sum_columns(l, p->d.b1, begun, gh, dR.K);
    input_gradients(l, p, begun);
}

/* The loop has in `back` what the persistent kernels leave to one product here. */
void crnn_gru_own_flow(crnn_gru_own *l)
{
    int64_t H = l->base.s.H;
    crnn_cuda_product_shape shape = {
        .M = l->base.s.B, .N = H, .K = 3 * H, .ldc = H, .transpose_b = true, .accumulate = true};
    if (l->persistent)
        multiply(l, shape, l->dh, gradients_from(l, 0), recurrent_of(l), NULL);
}

/* What follows from the table's gradient. */
void crnn_gru_own_gradients_end(crnn_gru_own *l, const crnn_gru_own_pass *p)
{
    int64_t H = l->base.s.H, H3 = 3 * H, I = l->base.s.I, V = l->base.s.V;
    if (!l->folded)
        return;
    crnn_matrix sums = crnn_floats(l->dtable + H, 4 * H); /* parts 1 to 3 */
    sum_columns(l, p->d.b1, false, crnn_floats(l->dtable, 4 * H), V);
    multiply(l, (crnn_cuda_product_shape){.M = I, .N = H3, .K = V, .ldc = H3, .transpose_a = true}, p->d.K,
             crnn_floats(p->in->embeddings, I), sums, NULL);
    multiply(l, (crnn_cuda_product_shape){.M = V, .N = I, .K = H3, .ldc = I, .transpose_b = true}, p->din, sums,
             crnn_floats(p->w.K, H3), NULL);
    sum_columns(l, p->d.b0, false, sums, V);
}
