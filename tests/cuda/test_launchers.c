/* Each kernel through its launcher against plain loops, over shapes that no block or warp divides. Memory is of the exact size and unwritten
   where a kernel is to write, so that what it misses or oversteps shows; the checker sees what races. Planted mistakes must fail here. */
#include "cuda/launching.h"
#include "kernels/cuda/kernels.h"
#include "support/reference.h"

#include "host/base/rng.h"
#include <crnn/text.h>

/* ---- tokens.cu */
static void a_batch_is_the_text_from_each_start(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 1}, {3, 2}, {7, 5}, {1, 300}, {100, 3}};
    for (int i = 0; i < 10; i++) {
        const int T = shapes[i / 2][0], B = shapes[i / 2][1], width = 1 + i % 2, text = T + 40;
        const size_t n = (size_t)(T * B);
        uint16_t *wide = ids((size_t)text, 256);
        uint8_t *narrow = host((size_t)text);
        int64_t *starts = host((size_t)B * sizeof *starts);
        for (int c = 0; c < text; c++)
            narrow[c] = (uint8_t)wide[c];
        for (int b = 0; b < B; b++)
            starts[b] = b ? draw(40) : 39; /* the last that leaves one character more */
        uint16_t *x = room(2 * n), *y = room(2 * n);
        const void *source = width == 1 ? up(narrow, (size_t)text) : up(wide, 2 * (size_t)text);
        cuda(crnn_launch_gather(x, y, source, width, up(starts, (size_t)B * sizeof *starts), T, B, NULL));
        const uint16_t *hx = down(x, 2 * n), *hy = down(y, 2 * n);
        for (int t = 0; t < T; t++)
            for (int b = 0; b < B; b++) {
                assert_int_equal(hx[t * B + b], wide[starts[b] + t]);
                assert_int_equal(hy[t * B + b], wide[starts[b] + t + 1]);
            }
        give_back();
    }
}
static void a_lookup_copies_rows(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {5, 3, 7}, {300, 11, 2}, {9, 4, 257}};
    for (size_t i = 0; i < 4; i++) {
        const size_t n = shapes[i][0], V = shapes[i][1], E = shapes[i][2];
        const uint16_t *tokens = ids(n, (unsigned)V);
        const float *table = floats(V * E, 1);
        float *y = room(4 * n * E), *wanted = host(4 * n * E);
        cuda(crnn_launch_embed(y, up(tokens, 2 * n), up(table, 4 * V * E), (int64_t)n, (int32_t)E, NULL));
        for (size_t k = 0; k < n * E; k++)
            wanted[k] = table[tokens[k / E] * E + k % E];
        expect_floats(down(y, 4 * n * E), wanted, n * E);
        give_back();
    }
}
static void rows_of_a_character_are_added(void **state)
{
    (void)state;
    static const size_t shapes[][4] = {{1, 1, 1, 1},       {255, 3, 5, 9}, {256, 2, 5, 5},
                                       {700, 5, 300, 301}, {40, 6, 3, 3},  {2500, 2, 65, 65}};
    for (size_t i = 0; i < 6; i++) {
        const size_t n = shapes[i][0], V = shapes[i][1], E = shapes[i][2], ld = shapes[i][3];
        const uint16_t *tokens = ids(n, i == 4 ? 2 : i == 5 ? 1 : (unsigned)V); /* some characters do not occur */
        const float *dy = floats((n - 1) * ld + E, 1);
        float *table = room(4 * V * E);
        double *wanted = host(8 * V * E);
        cuda(crnn_launch_sum_by_token(table, false, crnn_floats(up(dy, 4 * ((n - 1) * ld + E)), (int64_t)ld),
                                      up(tokens, 2 * n), (int64_t)n, (int32_t)V, (int32_t)E,
                                      room(crnn_sum_by_token_scratch((int64_t)n, (int32_t)V)), NULL));
        for (size_t k = 0; k < n; k++)
            for (size_t e = 0; e < E; e++)
                wanted[tokens[k] * E + e] += (double)dy[k * ld + e];
        expect(down(table, 4 * V * E), wanted, V * E, 1e-6, 2e-5); /* up to 313 numbers below 1 in a row, in float */
        give_back();
    }
}

/* ---- loss.cu */
static void check_loss(size_t n, size_t V, float scale)
{
    float *z = floats(n * V, 5);
    uint16_t *y = ids(n, (unsigned)V);
    double *wanted = host(8 * n * V), loss = 0;
    for (size_t k = 0; k < n; k++) {
        z[k * V + (y[k] + k % 3) % V] = 6; /* often the right one; and the first of equals counts */
        if (k % 5 == 4)
            z[k * V + V - 1] = 6;
        if (y[k] + 32U < V)
            z[k * V + y[k] + 32] = 6; /* by the same lane of a warp */
        if (k % 7 == 6)
            y[k] = CRNN_NO_ID;
    }
    for (size_t k = 0; k < n * V; k++)
        wanted[k] = (double)z[k];
    int64_t positions = 0, hits = 0;
    ref_softmax_xent(&loss, &positions, &hits, wanted, y, (int64_t)n, (int64_t)V, (double)scale);
    float *dz = up(z, 4 * n * V);
    crnn_step_numbers *numbers = room(sizeof *numbers);
    cuda(crnn_launch_softmax_xent(numbers, dz, up(y, 2 * n), (int64_t)n, (int32_t)V, scale,
                                  room(CRNN_GPU_PARTIALS * sizeof(crnn_gpu_partial)), NULL));
    const crnn_step_numbers *got = down(numbers, sizeof *numbers);
    assert_int_equal(got->positions, positions);
    assert_int_equal(got->hits, hits);
    assert_int_equal(got->finite, 1);
    assert_true(fabs(got->loss_sum - loss) <= 1e-6 * (loss + 1)); /* exp in float, of arguments up to 11 */
    expect(down(dz, 4 * n * V), wanted, n * V, 2e-6, 1e-30);
    give_back();
}
static void the_loss_and_its_gradient(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {3, 2}, {9, 31}, {17, 32}, {7, 33}, {70, 83}, {5, 300}, {4200, 3}};
    for (size_t i = 0; i < 8; i++) {
        check_loss(shapes[i][0], shapes[i][1], 0.125F);
        if (i < 7)
            check_loss(shapes[i][0], shapes[i][1], 0);
    }
}
static void a_loss_that_is_not_finite_says_so(void **state)
{
    (void)state;
    float *z = floats(5 * 40, 1);
    z[3 * 40 + 35] = NAN;
    crnn_step_numbers *numbers = room(sizeof *numbers);
    cuda(crnn_launch_softmax_xent(numbers, up(z, 4 * 5 * 40), up(ids(5, 40), 10), 5, 40, 1,
                                  room(CRNN_GPU_PARTIALS * sizeof(crnn_gpu_partial)), NULL));
    assert_int_equal(((const crnn_step_numbers *)down(numbers, sizeof *numbers))->finite, 0);
    give_back();
}

/* ---- update.cu */
static void steps_take_their_inputs_from_a_queue(void **state)
{
    (void)state;
    enum { STEPS = 3 };
    static const int rows[] = {1, 255, 256, 700};
    for (int i = 0; i < 8; i++) {
        const int B = rows[i / 2], bad = i % 2 ? 0 : STEPS; /* the first is not taken, or each is */
        int64_t *wanted = host((size_t)(STEPS * B) * sizeof *wanted);
        crnn_step_inputs inputs[STEPS] = {{.step = 5}, {.step = 6}, {.step = 7}};
        for (int k = 0; k < STEPS * B; k++)
            wanted[k] = ((int64_t)1 << 40) + draw(1000);
        int64_t *starts = room((size_t)B * sizeof *starts);
        crnn_step_inputs *present = room(sizeof *present);
        const crnn_step_queue queue = {room(sizeof(int64_t)), up(inputs, sizeof inputs),
                                       up(wanted, (size_t)(STEPS * B) * sizeof *wanted),
                                       room(STEPS * sizeof(crnn_step_numbers))};
        for (int step = 0; step < 2 * STEPS; step++) { /* twice: a queue knows nothing of the one before it */
            const int k = step % STEPS;
            if (k == 0)
                cuda(cudaMemset(queue.begun, 0, sizeof *queue.begun));
            cuda(crnn_launch_next_step(present, starts, &queue, B, NULL));
            const crnn_step_inputs *got = down(present, sizeof *got);
            const int64_t *at = down(starts, (size_t)B * sizeof *at);
            assert_int_equal(got->step, 5 + k);
            assert_memory_equal(at, wanted + k * B, (size_t)B * sizeof *at);
            assert_int_equal(*(const int64_t *)down(queue.begun, sizeof(int64_t)), k + 1);
            int32_t halted;
            cuda(cudaMemcpy(&halted, &queue.numbers->halted, sizeof halted, cudaMemcpyDeviceToHost));
            assert_int_equal(halted, k > bad);
            const crnn_step_numbers now = {.loss_sum = k, .norm_squared = 2, .finite = k < bad, .halted = halted};
            cuda(cudaMemcpy(queue.numbers, &now, sizeof now, cudaMemcpyHostToDevice));
        }
        const crnn_step_numbers *done = down(queue.numbers, STEPS * sizeof *done);
        for (int k = 0; k < STEPS; k++)
            assert_true(done[(k + 1) % STEPS].loss_sum == k && done[(k + 1) % STEPS].finite == (k < bad));
        give_back();
    }
}
static void nothing_is_taken_behind_a_bad_step(void **state)
{
    (void)state;
    for (int halted = 0; halted < 2; halted++) {
        const crnn_step_numbers before = {.finite = 1, .halted = halted};
        crnn_step_numbers *numbers = up(&before, sizeof before);
        cuda(crnn_launch_norm(numbers, up(floats(70, 1), 4 * 70), 70,
                              room(CRNN_GPU_PARTIALS * sizeof(crnn_gpu_partial)), NULL));
        assert_int_equal(((const crnn_step_numbers *)down(numbers, sizeof *numbers))->finite, !halted);
        give_back();
    }
}
static void the_norm_is_of_all_gradients(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 31, 256, 1000, 140000}; /* the last: more than all threads of all blocks */
    for (size_t i = 0; i < 5; i++) {
        const size_t n = sizes[i];
        float *g = floats(n, 3);
        crnn_step_numbers before = {.finite = 1, .loss_sum = 7};
        crnn_step_numbers *numbers = up(&before, sizeof before);
        crnn_gpu_partial *partials = room(CRNN_GPU_PARTIALS * sizeof *partials);
        double sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += (double)g[k] * (double)g[k];
        cuda(crnn_launch_norm(numbers, up(g, 4 * n), (int64_t)n, partials, NULL));
        const crnn_step_numbers *got = down(numbers, sizeof *numbers);
        assert_true(fabs(got->norm_squared - sum) <= 1e-12 * sum);
        assert_true(got->finite == 1 && got->loss_sum == 7);
        g[n - 1] = INFINITY;
        cuda(crnn_launch_norm(numbers, up(g, 4 * n), (int64_t)n, partials, NULL));
        assert_int_equal(((const crnn_step_numbers *)down(numbers, sizeof *numbers))->finite, 0);
        give_back();
    }
}
static void check_adam(size_t n, float clip, int32_t finite)
{
    float *w = floats(n, 1), *m = floats(n, 0.1F), *v = floats(n, 1), *g = floats(n, 2);
    const crnn_step_inputs inputs = {.adam = {0.01F, 0.9F, 0.999F, 1e-7F, clip, 0.001F}};
    const crnn_step_numbers numbers = {.norm_squared = 25, .finite = finite};
    for (size_t i = 0; i < n; i++)
        v[i] *= v[i];
    float *dw = up(w, 4 * n), *dm = up(m, 4 * n), *dv = up(v, 4 * n);
    double *rw = host(8 * n), *rm = host(8 * n), *rv = host(8 * n);
    for (size_t i = 0; i < n; i++) {
        const crnn_adam *a = &inputs.adam;
        const double gi = (double)g[i] * (clip > 0 && clip < 5 ? (double)clip / 5 : 1);
        rm[i] = (double)a->beta1 * (double)m[i] + (1 - (double)a->beta1) * gi;
        rv[i] = (double)a->beta2 * (double)v[i] + (1 - (double)a->beta2) * gi * gi;
        rw[i] = (double)w[i] - (double)a->rate * rm[i] / (sqrt(rv[i]) + (double)a->epsilon) -
                (double)a->decay * (double)w[i];
    }
    const crnn_gpu_update update = {.w = dw,
                                    .m = dm,
                                    .v = dv,
                                    .g = up(g, 4 * n),
                                    .to = (int64_t)n,
                                    .inputs = up(&inputs, sizeof inputs),
                                    .numbers = up(&numbers, sizeof numbers)};
    cuda(crnn_launch_adam(&update, NULL));
    if (finite) { /* half a dozen roundings to float; 1 - beta in float has an error of its own, 1e-4 of 0.001 in 2^-24 */
        expect(down(dm, 4 * n), rm, n, 1e-6, 1e-7);
        expect(down(dv, 4 * n), rv, n, 5e-5, 1e-9);
        expect(down(dw, 4 * n), rw, n, 1e-6, 1e-6);
    } else {
        expect_floats(down(dw, 4 * n), w, n);
        expect_floats(down(dm, 4 * n), m, n);
        expect_floats(down(dv, 4 * n), v, n);
    }
    give_back();
}
static void the_update_is_that_of_adam(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 3, 4, 6, 1023, 5000};
    for (size_t i = 0; i < 6; i++) {
        check_adam(sizes[i], 0, 1);
        check_adam(sizes[i], 2, 1);
        check_adam(sizes[i], 9, 1);
        check_adam(sizes[i], 2, 0);
    }
}
static void a_step_that_was_not_taken_carries_nothing(void **state)
{
    (void)state;
    for (int finite = -1; finite < 2; finite++) {
        const crnn_step_numbers numbers = {.finite = finite};
        const size_t n = 777;
        const float *from = floats(n, 1), *before = floats(n, 1);
        float *to = up(before, 4 * n);
        cuda(
            crnn_launch_carry(to, up(from, 4 * n), (int64_t)n, finite < 0 ? NULL : up(&numbers, sizeof numbers), NULL));
        expect_floats(down(to, 4 * n), finite ? from : before, n);
        give_back();
    }
}

/* ---- dropout.cu */
static void dropout_draws_as_on_the_host(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4, 7, 1030};
    for (size_t i = 0; i < 4; i++) {
        const size_t n = sizes[i];
        const crnn_step_inputs inputs = {.step = 3 + i};
        const uint64_t seed = 0x123456789abcdef0, stream = crnn_rng_stream(CRNN_RNG_DROPOUT, (3 + i) * 256 + 2);
        const float *x = floats(n, 1), p = 0.3F;
        double *wanted = host(8 * n);
        for (size_t k = 0; k < n; k++)
            wanted[k] = crnn_u01(crnn_philox(seed, stream, k / 4).v[k % 4]) >= p ? (double)x[k] / (1 - (double)p) : 0;
        float *y = up(x, 4 * n); /* in place */
        cuda(crnn_launch_dropout(y, y, (int64_t)n, p, seed, up(&inputs, sizeof inputs), 2, NULL));
        expect(down(y, 4 * n), wanted, n, 3e-7, 0);
        give_back();
    }
}

/* ---- rows.cu */
static void columns_are_summed_and_rows_moved(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1}, {3, 5, 5}, {17, 33, 40}, {200, 70, 70}, {16, 32, 32}};
    for (size_t i = 0; i < 5; i++) {
        const size_t rows = shapes[i][0], columns = shapes[i][1], ld = shapes[i][2], n = (rows - 1) * ld + columns;
        const float *x = floats(n, 1), *b = floats(columns, 1);
        float *y = room(4 * columns), *dx = up(x, 4 * n), *moved = host(4 * n);
        double *sums = host(8 * columns);
        cuda(crnn_launch_column_sums(y, false, crnn_floats(dx, (int64_t)ld), (int64_t)rows, (int32_t)columns, NULL));
        memcpy(moved, x, 4 * n);
        for (size_t k = 0; k < rows * columns; k++) {
            sums[k % columns] += (double)x[k / columns * ld + k % columns];
            moved[k / columns * ld + k % columns] += b[k % columns];
        }
        expect(down(y, 4 * columns), sums, columns, 1e-6, 1e-5); /* up to 13 terms in float, 16 such in double */
        cuda(crnn_launch_add_bias(dx, (int64_t)ld, up(b, 4 * columns), (int64_t)rows, (int32_t)columns, NULL));
        expect_floats(down(dx, 4 * n), moved, n);
        give_back();
    }
}
static void bfloat16_is_the_nearest(void **state)
{
    (void)state;
    const size_t n = 1000;
    const float *x = floats(n, 100);
    float *wanted = host(4 * n);
    for (size_t i = 0; i < n; i++)
        wanted[i] = (float)as((double)x[i], CUDA_R_16BF);
    uint16_t *narrow = room(2 * n);
    float *back = room(4 * n);
    cuda(crnn_launch_narrow((crnn_narrow){narrow, (int64_t)n, 0, CRNN_FORMAT_BF16, 0}, up(x, 4 * n), 1, (int64_t)n,
                            NULL));
    cuda(crnn_launch_from_bf16(back, narrow, (int64_t)n, NULL));
    expect_floats(down(back, 4 * n), wanted, n);
    give_back();
}
static void fp16_is_the_nearest_and_low_parts_are_the_rest(void **state)
{
    (void)state;
    const size_t n = 1000, rows[] = {1, 40, 1, 40};
    for (size_t k = 0; k < 4; k++) { /* low parts behind all high ones, or behind those of their row */
        const size_t parts = 1 + k / 2, columns = n / rows[k], ld = rows[k] > 1 ? parts * columns : columns;
        const size_t low = rows[k] > 1 ? columns : n;
        const float *x = floats(n, 100);
        const crnn_narrow to = {room(2 * parts * n), (int64_t)ld, (int64_t)low,
                                parts == 2 ? CRNN_FORMAT_SPLIT : CRNN_FORMAT_FP16, 8};
        cuda(crnn_launch_narrow(to, up(x, 4 * n), (int64_t)rows[k], (int64_t)columns, NULL));
        const uint16_t *got = down(to.at, 2 * parts * n);
        for (size_t i = 0; i < n; i++) {
            const size_t at = i / columns * ld + i % columns;
            const double v = (double)x[i] * 256, high = as(v, CUDA_R_16F);
            assert_true(get(got, CUDA_R_16F, at) == high);
            assert_true(parts == 1 || get(got, CUDA_R_16F, low + at) == as(v - high, CUDA_R_16F));
        }
        give_back();
    }
    for (size_t parts = 1; parts <= 2; parts++) { /* 255.9 is the last that rounds to a number once it is doubled */
        const float x[] = {255.9F, 255.94F, -1e6F, INFINITY, NAN};
        const crnn_narrow to = {room(20), 5, 5, parts == 2 ? CRNN_FORMAT_SPLIT : CRNN_FORMAT_FP16, 8};
        cuda(crnn_launch_narrow(to, up(x, sizeof x), 1, 5, NULL));
        const uint16_t *got = down(to.at, 10 * parts);
        for (size_t i = 0; i < 5 * parts; i++)
            assert_int_equal((got[i] & 0x7fff) > 0x7c00, i % 5 > 0);
        give_back();
    }
    assert_int_equal(crnn_launch_narrow((crnn_narrow){.format = CRNN_FORMAT_FLOAT}, NULL, 1, 1, NULL),
                     cudaErrorInvalidValue);
}
/* Sums over numbers of 16 bits are those over the floats that they stand for. */
static void sums_read_every_format(void **state)
{
    (void)state;
    enum { N = 77, COLUMNS = 37, V = 3, LD = 2 * COLUMNS + 5 };
    static const crnn_number_format formats[] = {CRNN_FORMAT_BF16, CRNN_FORMAT_FP16, CRNN_FORMAT_SPLIT};
    for (int f = 0; f < 3; f++) {
        const bool split = formats[f] == CRNN_FORMAT_SPLIT;
        const cudaDataType type = formats[f] == CRNN_FORMAT_BF16 ? CUDA_R_16BF : CUDA_R_16F;
        const uint16_t *tokens = ids(N, V);
        uint16_t *x = host(2 * N * LD);
        double *columns = host(8 * COLUMNS), *table = host(8 * V * COLUMNS);
        for (int i = 0; i < N * COLUMNS; i++) {
            uint16_t *at = x + i / COLUMNS * LD + i % COLUMNS;
            at[0] =
                (uint16_t)((draw(2) << 15) + (type == CUDA_R_16BF ? 0x3f00 : 0x3800) + draw(0x100)); /* 1/2 and more */
            at[COLUMNS] = (uint16_t)(0x0800 + draw(0x100));
            const double v =
                (get(x, type, (size_t)(at - x)) + (split ? get(x, type, (size_t)(at - x) + COLUMNS) : 0)) / 8;
            columns[i % COLUMNS] += 2 * v;
            table[tokens[i / COLUMNS] * COLUMNS + i % COLUMNS] += 2 * v;
        }
        const crnn_matrix m = {up(x, 2 * N * LD), LD, COLUMNS, formats[f], 3};
        float *sums = room(4 * COLUMNS), *dtable = room(4 * V * COLUMNS);
        const uint16_t *text = up(tokens, 2 * N);
        for (int twice = 0; twice < 2; twice++) { /* added to what is there, the second time */
            cuda(crnn_launch_column_sums(sums, twice, m, N, COLUMNS, NULL));
            cuda(crnn_launch_sum_by_token(dtable, twice, m, text, N, V, COLUMNS, room(crnn_sum_by_token_scratch(N, V)),
                                          NULL));
        }
        expect(down(sums, 4 * COLUMNS), columns, COLUMNS, 1e-6, 1e-6); /* below 20 in float, some in double */
        expect(down(dtable, 4 * V * COLUMNS), table, V * COLUMNS, 1e-6, 1e-6);
        give_back();
    }
}

/* ---- gates.cu */
typedef struct {
    int B, H, V;      /* V > 0: tokens */
    int pieces;       /* of a sum */
    bool last, again; /* again: the gates alone */
    crnn_number_format format;
} step;
static const step steps[] = {
    {1, 1, 0, 1, true, false, CRNN_FORMAT_SPLIT},    {3, 5, 0, 1, false, false, CRNN_FORMAT_BF16},
    {2, 130, 4, 3, false, false, CRNN_FORMAT_SPLIT}, {5, 33, 7, 1, true, false, CRNN_FORMAT_BF16},
    {3, 37, 5, 1, false, true, CRNN_FORMAT_FP16},    {4, 35, 0, 2, false, true, CRNN_FORMAT_SPLIT},
    {4, 35, 0, 1, false, false, CRNN_FORMAT_FP16}};
enum { DOUBLINGS = 5 };
static int halves_of(const step *s)
{
    return s->format == CRNN_FORMAT_SPLIT ? 2 : 1;
}
static cudaDataType type_of(const step *s)
{
    return s->format == CRNN_FORMAT_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}
/* What x must have become at place i, in both parts. */
static void expect_narrow(const step *s, const uint16_t *got, size_t i, size_t low, double x, double relative)
{
    const double v = x * (1 << DOUBLINGS), seen = get(got, type_of(s), i);
    const double rest = halves_of(s) == 2 ? get(got, CUDA_R_16F, i + low) : 0;
    const double unit = s->format == CRNN_FORMAT_BF16 ? 0x1p-8 : halves_of(s) == 2 ? 0x1p-22 : 0x1p-11;
    if (!(fabs(seen + rest - v) <= (unit + relative) * fabs(v) + 0x1p-24 + relative * (1 << DOUBLINGS)))
        fail_msg("%g became %g and %g", v, seen, rest);
}
/* Parts of a sum as a product leaves them; sums[row * columns + j] is what they add up to. */
static float *parts_of_sums(double *sums, const step *s, size_t rows, size_t columns)
{
    const size_t halves = (size_t)halves_of(s), one = rows * halves * columns, n = (size_t)s->pieces * one;
    float *x = floats(n, 1);
    for (size_t i = 0; i < n; i++)
        sums[i % one / (halves * columns) * columns + i % columns] += (double)x[i];
    return up(x, 4 * n);
}
static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
/* Where xp is not of tokens it lies in keep, as the backend has it. */
static void check_gates(const step *s)
{
    const size_t B = (size_t)s->B, H = (size_t)s->H, ldk = 4 * H + 3, keeps = (B - 1) * ldk + 4 * H, at = s->V ? 0 : H;
    const size_t ldx = s->V ? 3 * H : ldk;
    const uint16_t *tokens = s->V ? ids(B, (unsigned)s->V) : NULL;
    const float *b1 = floats(3 * H, 1), *h_prev = floats(B * H, 1);
    const size_t halves = (size_t)halves_of(s), low = B * H + 3;
    double *hp = host(8 * B * 3 * H);
    const float *xp = floats(s->V ? (size_t)s->V * 3 * H : keeps, 2);
    float *keep = s->V ? room(4 * keeps) : up(xp, 4 * keeps);
    crnn_gates g = {.h = s->again ? NULL : room(4 * B * H),
                    .h16 = {s->again ? NULL : room(2 * halves * low), (int64_t)H, (int64_t)low, s->format, DOUBLINGS},
                    .keep = keep,
                    .hp = {parts_of_sums(hp, s, B, 3 * H), s->pieces, (int32_t)halves},
                    .b1 = up(b1, 12 * H),
                    .xp = s->V ? up(xp, 4 * (size_t)s->V * 3 * H) : keep + H,
                    .tokens = s->V ? up(tokens, 2 * B) : NULL,
                    .h_prev = s->again ? NULL : up(h_prev, 4 * B * H),
                    .ldk = (int64_t)ldk,
                    .ldx = (int64_t)ldx,
                    .B = s->B,
                    .H = s->H};
    cuda(crnn_launch_gates(&g, NULL));
    const float *h = s->again ? NULL : down(g.h, 4 * B * H), *kept = down(keep, 4 * keeps);
    const uint16_t *h16 = s->again ? NULL : down(g.h16.at, 2 * halves * low);
    for (size_t b = 0; b < B; b++)
        for (size_t j = 0; j < H; j++) {
            const float *x = xp + at + (s->V ? tokens[b] : b) * ldx + j;
            const double *p = hp + b * 3 * H + j, n_h = p[0] + (double)b1[j],
                         z = sigmoid((double)x[0] + p[H] + (double)b1[H + j]),
                         r = sigmoid((double)x[H] + p[2 * H] + (double)b1[2 * H + j]),
                         n = tanh((double)x[2 * H] + r * n_h);
            const double wanted[] = {n_h, z, r, n}, next = z * (double)h_prev[b * H + j] + (1 - z) * n;
            for (size_t k = 0; k < 4; k++) /* a few roundings of sums below 5 */
                expect(&kept[b * ldk + k * H + j], &wanted[k], 1, 2e-6, 1e-6);
            if (h)
                expect(&h[b * H + j], &next, 1, 2e-6, 1e-6);
            if (h16)
                expect_narrow(s, h16, b * H + j, low, (double)h[b * H + j], 0);
        }
    give_back();
}
static void the_gates_of_a_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        check_gates(&steps[i]);
}
static void check_gates_backward(const step *s)
{
    const size_t B = (size_t)s->B, H = (size_t)s->H, ldk = 4 * H + 3, keeps = (B - 1) * ldk + 4 * H;
    const float *kept = floats(keeps, 0.9F), *dhs = floats(B * H, 1), *h_prev = floats(B * H, 1);
    const float *dh = floats(B * H, 1);
    const size_t halves = (size_t)halves_of(s), low = 4 * H, ldd = halves * low + 1, all = B * ldd;
    double *back = host(8 * B * H);
    const crnn_sums sums = {parts_of_sums(back, s, B, H), s->pieces, (int32_t)halves};
    crnn_gates_backward g = {.dh = s->last ? room(4 * B * H) : up(dh, 4 * B * H),
                             .keep = up(kept, 4 * keeps),
                             .d = {room(2 * all), (int64_t)ldd, (int64_t)low, s->format, DOUBLINGS},
                             .back = s->last ? (crnn_sums){room(4 * B * H), 1, 1} : sums,
                             .dhs = up(dhs, 4 * B * H),
                             .h_prev = up(h_prev, 4 * B * H),
                             .last = s->last,
                             .ldk = (int64_t)ldk,
                             .B = s->B,
                             .H = s->H};
    cuda(crnn_launch_gates_backward(&g, NULL));
    const float *passed = down(g.dh, 4 * B * H);
    const uint16_t *got = down(g.d.at, 2 * all);
    for (size_t b = 0; b < B; b++)
        for (size_t j = 0; j < H; j++) {
            const float *k = kept + b * ldk + j;
            const double n_h = (double)k[0], z = (double)k[H], r = (double)k[2 * H], n = (double)k[3 * H];
            const double d = (double)dhs[b * H + j] + (s->last ? 0 : (double)dh[b * H + j] + back[b * H + j]);
            const double dn = d * (1 - z) * (1 - n * n), dz = d * ((double)h_prev[b * H + j] - n) * z * (1 - z),
                         dr = dn * n_h * r * (1 - r), past = d * z;
            const double wanted[] = {dn * r, dz, dr, dn};
            for (size_t i = 0; i < 4; i++) /* products of a few factors, each off by roundings of differences below 2 */
                expect_narrow(s, got, b * ldd + i * H + j, low, wanted[i], 2e-6);
            expect(&passed[b * H + j], &past, 1, 2e-6, 2e-6);
        }
    give_back();
}
static void the_gates_of_a_step_backward(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        check_gates_backward(&steps[i]);
    assert_int_equal(crnn_launch_gates(&(crnn_gates){.B = 1, .H = 1}, NULL), cudaErrorInvalidValue); /* of no format */
}

/* ---- sample.cu */
/* How many are before v in order of likelihood, the lower id first among equals; and what they sum to. */
static int before(const double *p, int V, int v, double *sum)
{
    int n = 0;
    *sum = 0;
    for (int i = 0; i < V; i++)
        if (p[i] > p[v] || (p[i] == p[v] && i < v)) {
            n++;
            *sum += p[i];
        }
    return n;
}
static void filter(double *p, const float *z, int V, const crnn_sample_options *o)
{
    double kept[512], total = 0, sum, max = -INFINITY;
    for (int v = 0; v < V; v++)
        max = fmax(max, (double)z[v]);
    for (int v = 0; v < V; v++)
        p[v] = (double)expf((z[v] - (float)max) / o->temperature);
    for (int v = 0; v < V; v++) {
        kept[v] = o->top_k > 0 && before(p, V, v, &sum) >= o->top_k ? 0 : p[v];
        total += kept[v];
    }
    for (int v = 0; v < V; v++) {
        int n = before(kept, V, v, &sum);
        p[v] = (n > 0 && o->top_p < 1 && sum >= (double)o->top_p * total) || kept[v] < (double)o->min_p ? 0 : kept[v];
    }
    total = 0;
    for (int v = 0; v < V; v++)
        total += p[v];
    for (int v = 0; v < V; v++)
        p[v] /= total;
}
static void filters_keep_the_likeliest(void **state)
{
    (void)state;
    static const int sizes[] = {1, 31, 300};
    static const crnn_sample_options options[] = {{1, 0, 1, 0, 1},    {0.5F, 5, 1, 0, 1},         {2, 0, 0.7F, 0, 1},
                                                  {1, 0, 1, 0.2F, 1}, {0.8F, 20, 0.9F, 0.05F, 1}, {1, 1, 1, 0, 1}};
    for (int i = 0; i < 12; i++) {
        const int V = sizes[i % 3], n = 2;
        const crnn_sample_options *o = &options[(i + i / 6) % 6];
        const size_t all = (size_t)(n * V);
        float *z = floats(all, 2);
        for (size_t k = 0; k < all; k++)
            z[k] = roundf(z[k] * 4) / 4; /* equals abound */
        double *wanted = host(8 * all);
        for (int k = 0; k < n; k++)
            filter(wanted + k * V, z + k * V, V, o);
        float *p = room(4 * all);
        cuda(crnn_launch_probabilities(p, up(z, 4 * all), n, V, o, NULL));
        expect(down(p, 4 * all), wanted, all, 1e-6, 1e-9);
        give_back();
    }
}
static void without_temperature_the_first_of_the_likeliest_is_taken(void **state)
{
    (void)state;
    const crnn_sample_options o = {0, 0, 1, 0, 1};
    enum { V = 300 };
    float *z = floats(2 * V, 1);
    z[250] = z[40] = 9;
    z[V + 299] = 9;
    float *p = room(4 * 2 * V);
    cuda(crnn_launch_probabilities(p, up(z, 4 * 2 * V), 2, V, &o, NULL));
    const float *got = down(p, 4 * 2 * V);
    for (int v = 0; v < V; v++)
        assert_true(got[v] == (v == 40) && got[V + v] == (v == 299));
    give_back();
}
static uint16_t picked(const float *p, int V, float u)
{
    double sum = 0;
    int last = 0;
    for (int v = 0; v < V; v++)
        if (p[v] > 0) {
            sum += (double)p[v];
            last = v;
            if ((double)u < sum)
                break;
        }
    return (uint16_t)last;
}
static void picks_are_those_of_the_host(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {3, 31}, {9, 33}, {70, 83}, {2, 300}};
    for (int i = 0; i < 5; i++) {
        const int n = sizes[i][0], V = sizes[i][1], ring = 3;
        const size_t all = (size_t)(n * V), row = 2 * (size_t)n;
        const uint64_t seed = 77, first = 4;
        float *p = floats(all, 1);
        for (size_t k = 0; k < all; k++)
            p[k] = k % 3 == 1 && V > 1 ? 0 : p[k] * p[k] + 0.001F;
        for (int k = 0; k < n; k++) {
            double sum = 0;
            for (int v = 0; v < V; v++)
                sum += (double)p[k * V + v];
            for (int v = 0; v < V; v++)
                p[k * V + v] = (float)((double)p[k * V + v] / sum);
        }
        uint16_t *got = room(row), *written = up(ids((size_t)(ring * n), 9), 3 * row);
        uint64_t *drawn = up(&first, sizeof first);
        const float *dp = up(p, 4 * all);
        for (uint64_t c = first; c < first + 4; c++) {
            cuda(crnn_launch_pick(got, written, drawn, dp, n, V, ring, seed, NULL));
            const uint16_t *h = down(got, row), *w = down(written, 3 * row);
            for (int k = 0; k < n; k++) {
                const float u = crnn_u01(crnn_philox(seed, crnn_rng_stream(CRNN_RNG_SAMPLE, (uint64_t)k), c).v[0]);
                assert_int_equal(h[k], picked(p + k * V, V, u));
                assert_int_equal(w[(int)(c % 3) * n + k], h[k]);
            }
        }
        assert_int_equal(*(const uint64_t *)down(drawn, sizeof *drawn), first + 4);
        give_back();
    }
}
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_the_text_from_each_start),
        cmocka_unit_test(a_lookup_copies_rows),
        cmocka_unit_test(rows_of_a_character_are_added),
        cmocka_unit_test(the_loss_and_its_gradient),
        cmocka_unit_test(a_loss_that_is_not_finite_says_so),
        cmocka_unit_test(steps_take_their_inputs_from_a_queue),
        cmocka_unit_test(nothing_is_taken_behind_a_bad_step),
        cmocka_unit_test(the_norm_is_of_all_gradients),
        cmocka_unit_test(the_update_is_that_of_adam),
        cmocka_unit_test(a_step_that_was_not_taken_carries_nothing),
        cmocka_unit_test(dropout_draws_as_on_the_host),
        cmocka_unit_test(columns_are_summed_and_rows_moved),
        cmocka_unit_test(bfloat16_is_the_nearest),
        cmocka_unit_test(fp16_is_the_nearest_and_low_parts_are_the_rest),
        cmocka_unit_test(sums_read_every_format),
        cmocka_unit_test(the_gates_of_a_step),
        cmocka_unit_test(the_gates_of_a_step_backward),
        cmocka_unit_test(filters_keep_the_likeliest),
        cmocka_unit_test(without_temperature_the_first_of_the_likeliest_is_taken),
        cmocka_unit_test(picks_are_those_of_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_was_found);
}
