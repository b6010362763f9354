/* Kernels that are right give what a plain loop gives, in whatever order their threads run, and the checker has nothing to say. */
#include "support/cmocka.h"

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

static void tensor_cores_multiply_as_matrices_do(void **state)
{
    (void)state;
    uint16_t a[256], b[128];
    float av[256], bv[128], d[128];
    for (int i = 0; i < 256; i++)
        av[i] = (float)(i * 7 % 17 - 8);
    for (int i = 0; i < 128; i++)
        bv[i] = (float)(i * 5 % 13 - 6);
    for (int i = 0; i < 256; i++) { /* small whole numbers are exact in bf16: its upper half of the float's bits */
        uint32_t u;
        memcpy(&u, &av[i], 4);
        a[i] = (uint16_t)(u >> 16);
        if (i < 128) {
            memcpy(&u, &bv[i], 4);
            b[i] = (uint16_t)(u >> 16);
        }
    }
    void *da = device(sizeof a, a), *db = device(sizeof b, b);
    float *dd = device(sizeof d, NULL);
    ok(sample_mma(dd, da, db, NULL));
    take(d, dd, sizeof d);
    ok(cudaFree(da));
    ok(cudaFree(db));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += av[i * 16 + k] * bv[k * 8 + j];
            assert_float_equal(d[i * 8 + j], sum, 0); /* whole numbers below 2^24 */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_summed_by_shuffles_and_shared_memory),
        cmocka_unit_test(shared_memory_is_one_for_each_block),
        cmocka_unit_test(a_grid_barrier_orders_all_blocks),
        cmocka_unit_test(integer_atomics_count_exactly_and_order_blocks),
        cmocka_unit_test(tensor_cores_multiply_as_matrices_do),
    };
    return cmocka_run_group_tests_name("simulated kernels", tests, NULL, NULL);
}
