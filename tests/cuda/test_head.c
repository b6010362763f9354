/* The kernels of the dense layer and its loss through their launcher, against plain loops: as test_launchers.c. */
#include "cuda/launching.h"
#include "kernels/cuda/head.h"
#include "support/reference.h"

#include <crnn/text.h>

/* None is further off than so much of the largest. */
static void expect_near(const char *what, const float *got, const double *wanted, size_t n, double tolerance)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(wanted[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - wanted[i]) <= tolerance * largest))
            fail_msg("%s[%zu]: %.9g, not %.9g; the largest is %g", what, i, (double)got[i], wanted[i], largest);
}
static double *doubles(const float *x, size_t n)
{
    double *d = host(8 * n);
    for (size_t i = 0; i < n; i++)
        d[i] = (double)x[i];
    return d;
}
/* columns: factors of every fourth one of W, or NULL. split: two 11-bit parts, sums of up to 300 terms in float. Otherwise 11 bits; of likely characters rounding may choose. */
static void check(size_t n, size_t H, size_t V, bool split, float scale, const float *columns)
{
    const double tolerance = split ? 3e-6 : 2e-3;
    const float *x = floats(n * H, 1), *b = floats(V, 2);
    float *W = floats(H * V, 2 / sqrtf((float)H));
    uint16_t *y = ids(n, (unsigned)V);
    for (size_t i = 2; i < n; i += 7)
        y[i] = CRNN_NO_ID;
    for (size_t i = 0; columns && i < H * V; i++)
        W[i] *= columns[i % V % 4];
    const double *dx_ = doubles(x, n * H), *dW_ = doubles(W, H * V);
    double *z = host(8 * n * V), *dx = host(8 * n * H), *dW = host(8 * H * V), *db = host(8 * V), loss;
    int64_t positions, hits;
    ref_linear(z, dx_, dW_, doubles(b, V), (int64_t)n, (int64_t)H, (int64_t)V);
    ref_softmax_xent(&loss, &positions, &hits, z, y, (int64_t)n, (int64_t)V, (double)scale);
    ref_linear_backward(dx, dW, db, z, dx_, dW_, (int64_t)n, (int64_t)H, (int64_t)V);
    const crnn_head head = {.numbers = room(sizeof *head.numbers),
                            .dx = room(4 * n * H),
                            .dW = room(4 * H * V),
                            .db = room(4 * V),
                            .scratch = room(crnn_head_bytes((int64_t)n, (int32_t)H, (int32_t)V, split)),
                            .x = up(x, 4 * n * H),
                            .W = up(W, 4 * H * V),
                            .b = up(b, 4 * V),
                            .y = up(y, 2 * n),
                            .n = (int64_t)n,
                            .H = (int32_t)H,
                            .V = (int32_t)V,
                            .scale = scale};
    cuda(crnn_launch_head(&head, split, NULL));
    const crnn_step_numbers *got = down(head.numbers, sizeof *got);
    assert_int_equal(got->positions, positions);
    assert_true(llabs(got->hits - hits) <= (split ? 0 : 1));
    assert_int_equal(got->finite, 1);
    if (!(fabs(got->loss_sum - loss) <= tolerance * (loss + 1)))
        fail_msg("loss %.17g, not %.17g", got->loss_sum, loss);
    expect_near("dx", down(head.dx, 4 * n * H), dx, n * H, tolerance);
    expect_near("dW", down(head.dW, 4 * H * V), dW, H * V, tolerance);
    expect_near("db", down(head.db, 4 * V), db, V, tolerance);
    give_back();
}
static void numbers_and_gradients_of_any_shape(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1},     {7, 5, 2},   {65, 64, 7}, {130, 100, 83}, {1, 257, 129},
                                       {130, 129, 2}, {7, 66, 96}, {65, 1, 97}, {70, 130, 256}};
    for (size_t i = 0; i < 18; i++)
        check(shapes[i / 2][0], shapes[i / 2][1], shapes[i / 2][2], i % 2 == 0, 1 / (float)shapes[i / 2][0], NULL);
}
/* More than one share of the rows for each block of units, and more than one block of rows to a share. */
static void shares_of_rows_are_added_up(void **state)
{
    (void)state;
    check(600, 1100, 3, false, 1.0F / 600, NULL);
    check(200, 20, 9, true, 1.0F / 200, NULL);
}
/* Columns of W that are far larger or smaller than others: the largest logits are beyond every range but float32's. */
static void each_column_of_weights_has_its_range(void **state)
{
    (void)state;
    static const float columns[][4] = {
        {1, 1e4F, 1, 1e-6F}, {1, 1e-3F, 0, 1e-30F}, {1e25F, 1, 1, 1}, {3e-4F, 2e-5F, 1e-4F, 0}};
    for (size_t i = 0; i < 4; i++)
        check(9, 40, 30, true, 1.0F / 9, columns[i]);
    check(9, 40, 30, false, 1.0F / 9, columns[3]);
}
/* Powers of two, and what is near them, as scales of the gradient. */
static void gradients_of_any_scale_fit(void **state)
{
    (void)state;
    static const float scales[] = {1, 0.75F, 1e-30F, 3e4F};
    for (size_t i = 0; i < 4; i++)
        check(9, 20, 30, i % 2 == 0, scales[i], NULL);
    crnn_head head = {.n = 1, .H = 1, .V = CRNN_HEAD_MOST_V + 1, .scale = 1};
    assert_int_equal(crnn_launch_head(&head, true, NULL), cudaErrorInvalidValue);
    head.V = 1;
    head.scale = 0;
    assert_int_equal(crnn_launch_head(&head, true, NULL), cudaErrorInvalidValue);
}
static void a_state_beyond_the_range_shows(void **state)
{
    (void)state;
    enum { N = 5, H = 20, V = 30 };
    float *x = floats(N * H, 1);
    x[2 * H + 7] = 300;
    const crnn_head head = {.numbers = room(sizeof *head.numbers),
                            .dx = room(4 * N * H),
                            .dW = room(4 * H * V),
                            .db = room(4 * V),
                            .scratch = room(crnn_head_bytes(N, H, V, true)),
                            .x = up(x, 4 * N * H),
                            .W = up(floats(H * V, 1), 4 * H * V),
                            .b = up(floats(V, 1), 4 * V),
                            .y = up(ids(N, V), 2 * N),
                            .n = N,
                            .H = H,
                            .V = V,
                            .scale = 1};
    for (int split = 0; split < 2; split++) {
        cuda(crnn_launch_head(&head, split, NULL));
        assert_int_equal(((const crnn_step_numbers *)down(head.numbers, sizeof *head.numbers))->finite, 0);
    }
    give_back();
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_gradients_of_any_shape),   cmocka_unit_test(shares_of_rows_are_added_up),
        cmocka_unit_test(each_column_of_weights_has_its_range), cmocka_unit_test(gradients_of_any_scale_fit),
        cmocka_unit_test(a_state_beyond_the_range_shows),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_was_found);
}
