/* What people and programs are told of the ways to compute a recurrent layer. */
#include "support/cmocka.h"

#include "host/cli/cli.h"
#include <math.h>
#include <string.h>

static void a_way_whose_values_are_not_finite_is_in_the_json_too(void **state)
{
    (void)state;
    crnn_rnn_choice choice = {.name = "cudnn",
                              .reason = CRNN_RNN_MEASURED,
                              .count = 2,
                              .candidates = {{.name = "cudnn", .forward_seconds = 1}}};
    choice.candidates[1] = (crnn_rnn_candidate){.name = "loop", .why = "it gives values that are not finite"};
    choice.candidates[1].difference = (double)INFINITY;
    json_t *json = cli_rnn_choice_json(&choice);
    const json_t *candidates = json_object_get(json, "candidates"), *loop = json_array_get(candidates, 1);
    assert_int_equal(json_array_size(candidates), 2);
    assert_string_equal(json_string_value(json_object_get(loop, "name")), "loop");
    assert_true(json_is_null(json_object_get(loop, "difference")));
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_way_whose_values_are_not_finite_is_in_the_json_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
