#include "support/cmocka.h"

#include "host/base/memory.h"
#include <stdlib.h>

static void a_product_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    size_t product;
    assert_true(crnn_mul_size(&product, 3, 5));
    assert_int_equal(product, 15);
    assert_false(crnn_mul_size(&product, SIZE_MAX / 2, 3));
    crnn_error err;
    assert_null(crnn_alloc(SIZE_MAX / 2, 3, "a test", &err));
    assert_int_equal(err.status, CRNN_ERR_MEMORY);
}

static void memory_comes_zeroed_and_aligned(void **state)
{
    (void)state;
    unsigned char *memory = crnn_alloc(7, 3, "a test", NULL);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 64, 0);
    for (int i = 0; i < 21; i++)
        assert_int_equal(memory[i], 0);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_that_does_not_fit_is_refused),
        cmocka_unit_test(memory_comes_zeroed_and_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
