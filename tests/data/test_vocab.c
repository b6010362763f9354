#include "support/cmocka.h"

#include <crnn/text.h>
#include <string.h>

static void characters_find_their_ids(void **state)
{
    (void)state;
    const uint32_t codes[] = {'\n', 'a', 'z', 0xE9, 0x10FFFF};
    crnn_vocab *vocab = crnn_vocab_new(codes, 5, NULL);
    assert_int_equal(crnn_vocab_size(vocab), 5);
    for (uint16_t v = 0; v < 5; v++) {
        assert_int_equal(crnn_vocab_id(vocab, codes[v]), v);
        assert_int_equal(crnn_vocab_codes(vocab)[v], codes[v]);
        assert_int_equal(crnn_vocab_id(vocab, codes[v] + 1), CRNN_NO_ID);
    }
    assert_int_equal(crnn_vocab_id(vocab, 0), CRNN_NO_ID);
    crnn_vocab_free(vocab);
    vocab = crnn_vocab_new(codes, 1, NULL); /* one character is a vocabulary */
    assert_int_equal(crnn_vocab_id(vocab, '\n'), 0);
    crnn_vocab_free(vocab);
    crnn_vocab_free(NULL);
}

static void check_refused(const uint32_t *codes, int32_t V)
{
    crnn_error err = {0};
    assert_null(crnn_vocab_new(codes, V, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
}

static void what_is_no_sorted_set_of_characters_is_refused(void **state)
{
    (void)state;
    static uint32_t many[65536];
    for (uint32_t i = 0; i < 65536; i++)
        many[i] = i + 0x10000;
    check_refused((uint32_t[]){1, 1}, 2);
    check_refused((uint32_t[]){2, 1}, 2);
    check_refused((uint32_t[]){0xD800}, 1);
    check_refused((uint32_t[]){0xDFFF}, 1);
    check_refused((uint32_t[]){0x110000}, 1);
    check_refused((uint32_t[]){UINT32_MAX}, 1);
    check_refused(many, 0);
    check_refused(many, -1);
    check_refused(many, 65536);
    crnn_vocab *vocab = crnn_vocab_new(many, 65535, NULL);
    assert_int_equal(crnn_vocab_id(vocab, 0x10000 + 65534), 65534);
    assert_int_equal(crnn_vocab_id(vocab, 0x10000 + 65535), CRNN_NO_ID);
    crnn_vocab_free(vocab);
}

static void check_repr(const char *expected, const uint32_t *codes, size_t count)
{
    char out[256];
    assert_int_equal(crnn_repr(out, sizeof out, codes, count), strlen(expected));
    assert_string_equal(out, expected);
}

/* The expected strings are Python 3's own. */
static void repr_is_pythons(void **state)
{
    (void)state;
    check_repr("''", NULL, 0);
    check_repr("'a'", (uint32_t[]){'a'}, 1);
    check_repr("\"'\"", (uint32_t[]){'\''}, 1);
    check_repr("'\"'", (uint32_t[]){'"'}, 1);
    check_repr("'\\'\"'", (uint32_t[]){'\'', '"'}, 2);
    check_repr("'\\\\'", (uint32_t[]){'\\'}, 1);
    check_repr("'\\r\\n\\t \\x00\\x1b\\x7f\\x80'", (uint32_t[]){'\r', '\n', '\t', ' ', 0, 27, 127, 128}, 8);
    check_repr("'\\xa0\xc2\xbf\\xad\xc3\xa9'", (uint32_t[]){0xA0, 0xBF, 0xAD, 0xE9}, 4);
    check_repr("'\xe2\x80\x94\\u2028\\u200b\\u3000\\ufeff\\ue000\\ufdd0'",
               (uint32_t[]){0x2014, 0x2028, 0x200B, 0x3000, 0xFEFF, 0xE000, 0xFDD0}, 7);
    check_repr("'\xf0\x9f\x98\x80\\U000e0001\\U0010ffff'", (uint32_t[]){0x1F600, 0xE0001, 0x10FFFF}, 3);
    check_repr("'\xcc\x81'", (uint32_t[]){0x301}, 1); /* a combining accent is printable */
}

static void repr_never_writes_past_its_room(void **state)
{
    (void)state;
    const uint32_t codes[] = {'a', '\n', 0xE9, 0x2028};
    for (size_t size = 0; size < 20; size++) {
        char out[20];
        memset(out, 'x', sizeof out);
        assert_int_equal(crnn_repr(out, size, codes, 4), 13);
        for (size_t i = size; i < sizeof out; i++)
            assert_int_equal(out[i], 'x');
        if (size > 0)
            assert_true(strlen(out) < size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_find_their_ids),
        cmocka_unit_test(what_is_no_sorted_set_of_characters_is_refused),
        cmocka_unit_test(repr_is_pythons),
        cmocka_unit_test(repr_never_writes_past_its_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
