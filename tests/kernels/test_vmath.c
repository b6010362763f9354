/* The vector loops' exp, sigmoid and tanh against the C library in double precision. */
#include "support/cmocka.h"

#include "kernels/cpu/vmath.h"
#include <math.h>

/* Distance in units of the last place of the true value. */
static double ulps(float got, double truth)
{
    int exponent;
    frexp(truth, &exponent);
    return fabs((double)got - truth) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void the_worst_error_over_a_fine_grid_of_floats_is_small(void **state)
{
    (void)state;
    double worst[3] = {0};
    for (uint32_t u = 0; u < 0x43000000; u += 1009) { /* every 1009th float from 0 to 128 */
        for (int sign = 0; sign < 2; sign++) {
            crnn_float_bits b = {.u = u};
            float x = sign ? -b.f : b.f;
            double d = (double)x;
            if (x > -87.0F && x < 88.0F) { /* outside, exp is clamped */
                worst[0] = fmax(worst[0], ulps(crnn_exp(x), exp(d)));
                worst[1] = fmax(worst[1], ulps(crnn_sigmoid(x), sigmoid(d)));
            }
            worst[2] = fmax(worst[2], ulps(crnn_tanh(x), tanh(d)));
        }
    }
    print_message("worst errors in units of the last place: exp %.2f, sigmoid %.2f, tanh %.2f\n", worst[0], worst[1],
                  worst[2]);
    assert_true(worst[0] < 2);
    assert_true(worst[1] < 4); /* one addition and one division more */
    assert_true(worst[2] < 4);
}

static void nan_stays_nan_and_infinity_saturates(void **state)
{
    (void)state;
    assert_true(isnan(crnn_exp(NAN)) && isnan(crnn_sigmoid(NAN)) && isnan(crnn_tanh(NAN)));
    assert_true(crnn_exp(-INFINITY) < 1e-37F && crnn_exp(INFINITY) > 1e38F);
    assert_true(crnn_sigmoid(INFINITY) == 1 && crnn_sigmoid(-INFINITY) < 1e-37F);
    assert_true(crnn_tanh(INFINITY) == 1 && crnn_tanh(-INFINITY) == -1);
    assert_true(crnn_tanh(0) == 0 && crnn_exp(0) == 1 && crnn_sigmoid(0) == 0.5F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_worst_error_over_a_fine_grid_of_floats_is_small),
        cmocka_unit_test(nan_stays_nan_and_infinity_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
