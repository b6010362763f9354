/* Kernels that are right give what a plain loop gives, in whatever order their threads run, and the checker has nothing to say. */
#include "support/cmocka.h"

#include "kernels/clusters.h"
#include "kernels/samples.h"
#include <cusim_control.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void ok(cudaError_t e)
{
    assert_string_equal(cudaGetErrorName(e), "cudaSuccess");
}
static void *device(size_t n, const void *from)
{
    void *p = NULL;
    ok(cudaMalloc(&p, n));
    ok(from ? cudaMemcpy(p, from, n, cudaMemcpyHostToDevice) : cudaMemset(p, 0, n));
    return p;
}
/* Copies back and frees. */
static void take(void *to, void *p, size_t n)
{
    ok(cudaMemcpy(to, p, n, cudaMemcpyDeviceToHost));
    ok(cudaFree(p));
    assert_int_equal(cusim_errors(), 0);
}

static void structures_are_copied_whole(void **state)
{
    (void)state;
    enum { N = 150 };
    double x[3 * N], y[3 * N];
    for (int i = 0; i < 3 * N; i++)
        x[i] = i;
    double *dx = device(sizeof x, x), *dy = device(sizeof y, NULL);
    ok(sample_copy_triples(dy, dx, N, NULL));
    take(y, dy, sizeof y);
    ok(cudaFree(dx));
    assert_memory_equal(x, y, sizeof x);
}

static void rows_are_summed_by_shuffles_and_shared_memory(void **state)
{
    (void)state;
    enum { R = 5, N = 301 };
    float x[R * N], sums[R];
    for (int i = 0; i < R * N; i++)
        x[i] = (float)(i % 7); /* whole numbers: sums are exact in any order */
    float *dx = device(sizeof x, x), *ds = device(sizeof sums, NULL);
    ok(sample_sums(ds, dx, R, N, NULL));
    take(sums, ds, sizeof sums);
    ok(cudaFree(dx));
    for (int r = 0; r < R; r++) {
        float sum = 0;
        for (int i = 0; i < N; i++)
            sum += x[r * N + i];
        assert_float_equal(sums[r], sum, 0);
    }
}

static void shared_memory_is_one_for_each_block(void **state)
{
    (void)state;
    enum { N = 1024 };
    int x[N], y[N];
    for (int i = 0; i < N; i++)
        x[i] = i * i;
    int *dx = device(sizeof x, x), *dy = device(sizeof y, NULL);
    ok(sample_reverse(dy, dx, N, NULL));
    ok(cudaMemcpy(y, dy, sizeof y, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_int_equal(y[i], x[N - 1 - i]);
    ok(sample_reverse_warps(dy, dx, N, NULL));
    take(y, dy, sizeof y);
    ok(cudaFree(dx));
    for (int i = 0; i < N; i++)
        assert_int_equal(y[i], x[i / 32 * 32 + 31 - i % 32]);
}

static void a_grid_barrier_orders_all_blocks(void **state)
{
    (void)state;
    enum { BLOCKS = 6, N = BLOCKS * 64, STEPS = 10 };
    float x[N], want[N], next[N];
    for (int i = 0; i < N; i++)
        want[i] = x[i] = (float)(i % 11);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < N; i++)
            next[i] = 0.5f * (want[(i + N - 1) % N] + want[(i + 1) % N]);
        memcpy(want, next, sizeof want);
    }
    float *dx = device(sizeof x, x), *other = device(sizeof x, NULL);
    ok(sample_smooth(dx, other, BLOCKS, STEPS, NULL)); /* an even number of steps ends in x */
    take(x, dx, sizeof x);
    ok(cudaFree(other));
    for (int i = 0; i < N; i++)
        assert_float_equal(x[i], want[i], 0); /* the same operations in the same order */
}

static void integer_atomics_count_exactly_and_order_blocks(void **state)
{
    (void)state;
    enum { N = 1000, BLOCKS = 9 };
    uint8_t x[N];
    unsigned counts[16];
    for (int i = 0; i < N; i++)
        x[i] = (uint8_t)(i % 13);
    uint8_t *dx = device(sizeof x, x);
    unsigned *dc = device(sizeof counts, NULL), *done = device(sizeof *done, NULL);
    int sum, *ds = device(sizeof sum, NULL), *parts = device(BLOCKS * sizeof(int), NULL);
    ok(sample_count(dc, dx, N, NULL));
    ok(sample_last_block(ds, parts, done, BLOCKS, NULL));
    take(counts, dc, sizeof counts);
    take(&sum, ds, sizeof sum);
    ok(cudaFree(dx));
    ok(cudaFree(done));
    ok(cudaFree(parts));
    for (int v = 0; v < 16; v++)
        assert_int_equal(counts[v], v < 13 ? (N + 12 - v) / 13 : 0);
    assert_int_equal(sum, BLOCKS * (BLOCKS + 1) / 2);
}

static void a_warp_barrier_passes_on_what_one_lane_waited_for(void **state)
{
    (void)state;
    int y[32], *dy = device(sizeof y, NULL), *dx = device(sizeof y, NULL);
    unsigned *flag = device(sizeof *flag, NULL);
    ok(sample_hand_over(dy, dx, flag, NULL));
    take(y, dy, sizeof y);
    for (int i = 0; i < 32; i++)
        assert_int_equal(y[i], 32 - i);
    ok(cudaFree(dx));
    ok(cudaFree(flag));
}

static void blocks_of_a_cluster_share_what_they_have(void **state)
{
    (void)state;
    enum { BLOCKS = 8, ROUNDS = 5 };
    for (unsigned cluster = 2; cluster <= 8; cluster *= 2)
        for (int rounds = 0; rounds <= ROUNDS;
             rounds += rounds + 1) { /* 0: they write to each other; 1, 3 bulk copies */
            int sums[BLOCKS / 2 * CLUSTER_ITEMS], *ds = device(sizeof sums, NULL);
            int *x = device(BLOCKS * CLUSTER_ITEMS * sizeof *x, NULL);
            ok(rounds ? cluster_multicast(ds, x, BLOCKS, cluster, rounds, CLUSTER_RIGHT)
                      : cluster_write_to_peers(ds, BLOCKS, cluster, CLUSTER_RIGHT));
            take(sums, ds, sizeof sums);
            ok(cudaFree(x));
            for (int c = 0; c < BLOCKS / (int)cluster; c++)
                for (int i = 0; i < CLUSTER_ITEMS; i++) {
                    int want = 0;
                    for (int round = 0; round < (rounds ? rounds : 1); round++)
                        for (int b = c * (int)cluster; b < (c + 1) * (int)cluster; b++)
                            want += 1000 * round + 100 * b + i;
                    assert_int_equal(sums[c * CLUSTER_ITEMS + i], want);
                }
        }
}

static double value_of_half(unsigned bits)
{
    unsigned e = bits >> 10 & 31, m = bits & 1023;
    double v = e ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24);
    return bits & 0x8000 ? -v : v;
}
static void half_is_rounded_to_nearest_even(void **state)
{
    (void)state;
    enum { EACH = 4, HALVES = 0x7c00, N = 2 * EACH * HALVES + 4 };
    float *x = calloc(N, sizeof *x), *back = calloc(N, sizeof *back), *dx, *db;
    uint16_t *want = calloc(N, sizeof *want), *bits = calloc(N, sizeof *bits), *dbits;
    int n = 0;
    for (unsigned s = 0; s <= 0x8000; s += 0x8000)
        for (unsigned h = 0; h < HALVES;
             h++) { /* each finite half; half way to the next one (65536 above the last); beside that */
            double sign = s ? -1 : 1, value = value_of_half(h), middle = (value + value_of_half(h + 1)) / 2;
            float between = (float)middle;
            x[n] = (float)(sign * value);
            want[n++] = (uint16_t)(s | h);
            x[n] = (float)(sign * middle);
            want[n++] = (uint16_t)(s | (h + (h & 1)));
            x[n] = (float)sign * nextafterf(between, 0);
            want[n++] = (uint16_t)(s | h);
            x[n] = (float)sign * nextafterf(between, INFINITY);
            want[n++] = (uint16_t)(s | (h + 1));
        }
    x[n] = INFINITY;
    want[n++] = 0x7c00;
    x[n] = -1e30F;
    want[n++] = 0xfc00;
    x[n] = NAN;
    want[n++] = 0x7fff;
    x[n] = -1e-30F;
    want[n++] = 0x8000;
    dx = device(N * sizeof *x, x);
    db = device(N * sizeof *back, NULL);
    dbits = device(N * sizeof *bits, NULL);
    ok(sample_halve(dbits, db, dx, N, NULL));
    take(bits, dbits, N * sizeof *bits);
    take(back, db, N * sizeof *back);
    ok(cudaFree(dx));
    for (int i = 0; i < N; i++) {
        assert_int_equal(bits[i], want[i]);
        if ((want[i] & 0x7fff) < HALVES)
            assert_true((double)back[i] == value_of_half(want[i]));
    }
    assert_true(isinf(back[N - 4]) && isinf(back[N - 3]) && isnan(back[N - 2]));
    free(x);
    free(back);
    free(want);
    free(bits);
}

/* Small whole numbers are exact in both formats. */
static uint16_t bf16_of(int v)
{
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)(u >> 16);
}
static uint16_t half_of(int v)
{
    unsigned bits = 0;
    while (value_of_half(bits) < abs(v))
        bits++;
    return (uint16_t)(bits | (v < 0 ? 0x8000 : 0));
}
static void tensor_cores_multiply_as_matrices_do(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        uint16_t a[256], b[128];
        int av[256], bv[128];
        float d[128];
        for (int i = 0; i < 256; i++) {
            av[i] = i * 7 % 17 - 8;
            a[i] = half ? half_of(av[i]) : bf16_of(av[i]);
        }
        for (int i = 0; i < 128; i++) {
            bv[i] = i * 5 % 13 - 6;
            b[i] = half ? half_of(bv[i]) : bf16_of(bv[i]);
        }
        uint16_t *da = device(sizeof a, a), *db = device(sizeof b, b);
        float *dd = device(sizeof d, NULL);
        ok(sample_mma(dd, da, db, half, NULL));
        take(d, dd, sizeof d);
        ok(cudaFree(da));
        ok(cudaFree(db));
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                int sum = 0;
                for (int k = 0; k < 16; k++)
                    sum += av[i * 16 + k] * bv[k * 8 + j];
                assert_float_equal(d[i * 8 + j], (float)sum, 0);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structures_are_copied_whole),
        cmocka_unit_test(rows_are_summed_by_shuffles_and_shared_memory),
        cmocka_unit_test(shared_memory_is_one_for_each_block),
        cmocka_unit_test(a_grid_barrier_orders_all_blocks),
        cmocka_unit_test(integer_atomics_count_exactly_and_order_blocks),
        cmocka_unit_test(a_warp_barrier_passes_on_what_one_lane_waited_for),
        cmocka_unit_test(blocks_of_a_cluster_share_what_they_have),
        cmocka_unit_test(half_is_rounded_to_nearest_even),
        cmocka_unit_test(tensor_cores_multiply_as_matrices_do),
    };
    return cmocka_run_group_tests_name("simulated kernels", tests, NULL, NULL);
}
