#include "support/cmocka.h"

#include "host/base/utf8.h"
#include <crnn/text.h>

static void every_character_survives_the_way_there_and_back(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char bytes[4];
        uint32_t back = 0;
        if (code >= 0xD800 && code < 0xE000)
            continue;
        int length = crnn_utf8_encode(bytes, code);
        int expected = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        if (length != expected || crnn_utf8_decode(bytes, sizeof bytes, &back) != length || back != code)
            fail_msg("U+%04X", (unsigned)code);
        if (length > 1 && crnn_utf8_decode(bytes, (size_t)length - 1, &back) != 0)
            fail_msg("U+%04X cut short is taken", (unsigned)code);
    }
}

static void check_bad(const char *bytes, size_t size, int bad)
{
    uint32_t code;
    assert_int_equal(crnn_utf8_decode(bytes, size, &code), 0);
    assert_int_equal(crnn_utf8_decode_part((const unsigned char *)bytes, size, &code), -bad);
}

/* The lengths of the bad parts are those that Python's errors="replace" makes one U+FFFD of. */
static void overlong_surrogate_and_cut_forms_are_refused(void **state)
{
    (void)state;
    check_bad("\x80", 1, 1);
    check_bad("\xc0\xaf", 2, 1);
    check_bad("\xc1\xbf", 2, 1);
    check_bad("\xe0\x80\xaf", 3, 1);
    check_bad("\xe0\x9f\xbf", 3, 1);
    check_bad("\xf0\x80\x80\xaf", 4, 1);
    check_bad("\xf0\x8f\xbf\xbf", 4, 1);
    check_bad("\xed\xa0\x80", 3, 1);
    check_bad("\xed\xbf\xbf", 3, 1);
    check_bad("\xf4\x90\x80\x80", 4, 1);
    check_bad("\xf5\x80\x80\x80", 4, 1);
    check_bad("\xff", 1, 1);
    check_bad("\xc3", 1, 1);
    check_bad("\xc3"
              "A",
              2, 1);
    check_bad("\xe2\x82", 2, 2);
    check_bad("\xe2\x82"
              "A",
              3, 2);
    check_bad("\xf1\x80\x80", 3, 3);
    check_bad("\xf1\x80\x80"
              "A",
              4, 3);
    check_bad("\xf1\x80"
              "AB",
              4, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_survives_the_way_there_and_back),
        cmocka_unit_test(overlong_surrogate_and_cut_forms_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
