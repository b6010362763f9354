/* The dense layer, its loss and their gradients as one op, against plain loops in double precision, in every precision of the device. */
#include "support/tensors.h"

#include "support/reference.h"
#include <crnn/text.h>
#include <string.h>

/* float32: sums of a few hundred terms. Otherwise factors of 11 bits, as tf32 has. */
static const double tolerances[] = {[CRNN_FP32] = 2e-6, [CRNN_TF32] = 2e-3, [CRNN_BF16] = 2e-3};

/* NULL where the device has no such format. */
static crnn_backend *open_any(int precision)
{
    const bool cpu = test_device().kind == CRNN_DEVICE_CPU;
    return cpu && precision == CRNN_TF32 ? NULL : open_precision((crnn_precision)precision);
}

static const int32_t shapes[][3] = {/* n, H, V */
                                    {1, 1, 1},     {7, 5, 2},      {65, 64, 7},   {130, 100, 83},
                                    {1, 257, 129}, {65, 1, 300},   {7, 100, 83},  {130, 5, 96},
                                    {70, 64, 97},  {65, 257, 256}, {130, 257, 7}, {64, 128, 66}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    tensor x, W, b, dx, dW, db;
    uint16_t *y, *y_device;
    void *scratch;
    crnn_step_numbers *numbers, got;
    crnn_head head;
} head_case;

static head_case new_case(crnn_backend *be, const int32_t *shape)
{
    int64_t n = shape[0], H = shape[1], V = shape[2];
    head_case c = {.x = draw(be, n * H, 1, 1), .W = draw(be, H * V, 4 / sqrt((double)H), 2), .b = draw(be, V, 1, 3)};
    c.dx = draw(be, n * H, 1, 4); /* rubbish to overwrite */
    c.dW = draw(be, H * V, 1, 5);
    c.db = draw(be, V, 1, 6);
    c.y = draw_tokens(be, &c.y_device, n, (int32_t)V);
    for (int64_t i = 3; i < n; i += 5)
        c.y[i] = CRNN_NO_ID;
    be->ops->upload(be, c.y_device, c.y, (size_t)n * sizeof *c.y);
    size_t bytes = be->ops->head_bytes(be, n, (int32_t)H, (int32_t)V);
    assert_true(bytes >= (size_t)(n * V) * sizeof(float));
    c.scratch = be->ops->alloc(be, bytes);
    c.numbers = be->ops->alloc(be, sizeof *c.numbers);
    c.head = (crnn_head){.numbers = c.numbers, .dx = c.dx.device, .dW = c.dW.device, .db = c.db.device};
    c.head.scratch = c.scratch;
    c.head.x = c.x.device;
    c.head.W = c.W.device;
    c.head.b = c.b.device;
    c.head.y = c.y_device;
    c.head.n = n;
    c.head.H = (int32_t)H;
    c.head.V = (int32_t)V;
    c.head.scale = 1.0F / (float)n;
    return c;
}
static void free_case(crnn_backend *be, head_case *c)
{
    tensor *all[] = {&c->x, &c->W, &c->b, &c->dx, &c->dW, &c->db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        drop(be, all[i]);
    be->ops->free(be, c->y_device);
    be->ops->free(be, c->scratch);
    be->ops->free(be, c->numbers);
    free(c->y);
}
static void run(crnn_backend *be, head_case *c)
{
    be->ops->head(be, &c->head);
    be->ops->download(be, &c->got, c->numbers, sizeof c->got);
    no_failure(be);
}

/* Gradients of the reference into dx, dW, db; its numbers. */
static crnn_step_numbers reference(head_case *c)
{
    int64_t n = c->head.n, H = c->head.H, V = c->head.V;
    double *z = calloc((size_t)(n * V), sizeof *z);
    crnn_step_numbers numbers = {.finite = 1};
    ref_linear(z, c->x.d, c->W.d, c->b.d, n, H, V);
    ref_softmax_xent(&numbers.loss_sum, &numbers.positions, &numbers.hits, z, c->y, n, V, (double)c->head.scale);
    ref_linear_backward(c->dx.d, c->dW.d, c->db.d, z, c->x.d, c->W.d, n, H, V);
    free(z);
    return numbers;
}
static void check(crnn_backend *be, head_case *c, double tolerance)
{
    const crnn_step_numbers wanted = reference(c);
    if (!(fabs(c->got.loss_sum - wanted.loss_sum) <= tolerance * wanted.loss_sum + 1e-12))
        fail_msg("loss %.17g, not %.17g", c->got.loss_sum, wanted.loss_sum);
    assert_int_equal(c->got.positions, wanted.positions);
    assert_true(llabs(c->got.hits - wanted.hits) <=
                (tolerance > 1e-5 ? 1 : 0)); /* of likely ones rounding may choose */
    assert_int_equal(c->got.finite, 1);
    assert_near(be, "dx", &c->dx, tolerance);
    assert_near(be, "dW", &c->dW, tolerance);
    assert_near(be, "db", &c->db, tolerance);
}

static void numbers_and_gradients_are_those_of_the_reference(void **state)
{
    (void)state;
    for (int precision = CRNN_FP32; precision <= CRNN_BF16; precision++) {
        crnn_backend *be = open_any(precision);
        for (int i = 0; be && i < SHAPES; i++) {
            head_case c = new_case(be, shapes[i]);
            run(be, &c);
            check(be, &c, tolerances[precision]);
            free_case(be, &c);
        }
        if (be)
            be->ops->close(be);
    }
}

/* Rows need not begin at whole pairs, and no row may count. */
static void any_place_in_memory_serves_and_a_batch_of_nothing(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    const int32_t shape[] = {66, 64, 83};
    head_case c = new_case(be, shape);
    tensor x = draw(be, 66 * 64 + 1, 1, 7), dx = make(be, 66 * 64 + 1);
    memcpy(c.x.d, x.d + 1, (size_t)c.x.n * sizeof *x.d);
    c.head.x = x.device + 1;
    c.head.dx = dx.device + 1;
    run(be, &c);
    be->ops->copy(be, c.dx.device, dx.device + 1, (size_t)c.dx.n * sizeof(float));
    check(be, &c, tolerances[CRNN_FP32]);
    for (int i = 0; i < 66; i++)
        c.y[i] = CRNN_NO_ID;
    be->ops->upload(be, c.y_device, c.y, 66 * sizeof *c.y);
    run(be, &c);
    be->ops->copy(be, c.dx.device, dx.device + 1, (size_t)c.dx.n * sizeof(float));
    check(be, &c, 0);
    assert_int_equal(c.got.positions, 0);
    drop(be, &x);
    drop(be, &dx);
    free_case(be, &c);
    be->ops->close(be);
}

/* Whether the loss says so, or all is as it should be. */
static void a_value_beyond_any_range_is_never_taken_for_another(void **state)
{
    (void)state;
    const int32_t shape[] = {5, 20, 30};
    const float bad[] = {NAN, INFINITY, -INFINITY, 300, -300, 5000, -5000, 1e20F, -1e20F};
    for (int precision = CRNN_FP32; precision <= CRNN_BF16; precision++) {
        crnn_backend *be = open_any(precision);
        for (int i = 0; be && i < 27; i++) {
            head_case c = new_case(be, shape);
            tensor *t = i < 9 ? &c.x : i < 18 ? &c.W : &c.b;
            int64_t at = t->n / 2;
            for (int64_t k = 0; i < 18 && k < c.x.n; k++) { /* so that an infinite product is -Inf, not NaN */
                c.x.f[k] = fabsf(c.x.f[k]);
                c.x.d[k] = fabs(c.x.d[k]);
            }
            be->ops->upload(be, c.x.device, c.x.f, (size_t)c.x.n * sizeof(float));
            t->d[at] = (double)bad[i % 9];
            be->ops->upload(be, t->device + at, &bad[i % 9], sizeof(float));
            run(be, &c);
            if (i % 9 == 0)
                assert_int_equal(c.got.finite, 0);
            else if (c.got.finite && i % 9 > 2)
                check(be, &c, tolerances[precision]);
            free_case(be, &c);
        }
        if (be)
            be->ops->close(be);
    }
}

static void the_same_call_gives_the_same_bits(void **state)
{
    (void)state;
    crnn_backend *be = open_backend();
    for (int i = 2; i < SHAPES; i += 3) {
        head_case c = new_case(be, shapes[i]);
        tensor *all[] = {&c.dx, &c.dW, &c.db};
        run(be, &c);
        const double loss = c.got.loss_sum;
        for (size_t k = 0; k < 3; k++) {
            be->ops->download(be, all[k]->f, all[k]->device, (size_t)all[k]->n * sizeof(float));
            for (int64_t j = 0; j < all[k]->n; j++)
                all[k]->d[j] = (double)all[k]->f[j];
        }
        run(be, &c);
        assert_memory_equal(&loss, &c.got.loss_sum, sizeof loss);
        for (size_t k = 0; k < 3; k++)
            assert_near(be, "again", all[k], 0);
        free_case(be, &c);
    }
    be->ops->close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_gradients_are_those_of_the_reference),
        cmocka_unit_test(any_place_in_memory_serves_and_a_batch_of_nothing),
        cmocka_unit_test(a_value_beyond_any_range_is_never_taken_for_another),
        cmocka_unit_test(the_same_call_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
