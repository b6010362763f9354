#include "support/cmocka.h"

#include "host/base/json.h"
#include <string.h>

static void assert_taken(const char *text, int depth, size_t values)
{
    crnn_error err = {0};
    json_t *object = crnn_json_read(text, strlen(text), depth, values, "it", &err);
    if (!object)
        fail_msg("%s: %s", text, err.text);
    json_decref(object);
}

static void assert_refused(const char *text, int depth, size_t values, const char *said)
{
    crnn_error err = {0};
    assert_null(crnn_json_read(text, strlen(text), depth, values, "it", &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    if (!strstr(err.text, said))
        fail_msg("'%s' is missing in: %s", said, err.text);
    assert_null(crnn_json_read(text, strlen(text), depth, values, "it", NULL));
}

static void objects_within_the_limits_are_taken(void **state)
{
    (void)state;
    assert_taken("{}", 1, 2);
    assert_taken(" {\"a\":[1,2,{\"b\":[]}],\"c\":null} ", 4, 8);
    /* What stands in strings is text. */
    assert_taken("{\"[{,\":\"\\\"[[[,,,\\\\\"}", 1, 2);
}

static void what_is_too_deep_or_too_much_is_refused_before_it_is_parsed(void **state)
{
    (void)state;
    assert_refused("{\"a\":[1,2,{\"b\":[]}],\"c\":null}", 3, 8, "it is nested too deeply");
    assert_refused("{\"a\":[1,2,{\"b\":[]}],\"c\":null}", 4, 7, "it has more than 7 values");
    assert_refused("]]]]{[[[", 3, 8, "no JSON object"); /* depth counts from where it stands */
}

static void what_is_no_json_object_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "1",
                                      "{",
                                      "{\"a\":1,}",
                                      "{\"a\":1}x",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":99999999999999999999}",
                                      "{\"a\":1e999}",
                                      "{'a':1}",
                                      "{\"a\":nan}",
                                      "\"\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i], 3, 100, "it is no JSON object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_within_the_limits_are_taken),
        cmocka_unit_test(what_is_too_deep_or_too_much_is_refused_before_it_is_parsed),
        cmocka_unit_test(what_is_no_json_object_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
