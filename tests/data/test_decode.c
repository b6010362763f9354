/* The decoder by itself: names of encodings, blocks that end anywhere, and what stands for bytes that are no text. */
#include "support/cmocka.h"

#include "host/data/decode.h"
#include <stdlib.h>
#include <string.h>

static void names_of_encodings_are_known_in_any_case(void **state)
{
    (void)state;
    static const char *const wide[] = {"UTF-16",   "utf16",  "UCS-2", "ucs2", "UNICODE",
                                       "utf-16le", "UTF-32", "UCS-4", "ucs4"};
    static const char *const narrow[] = {"utf-8",  "UTF8",  "utf8",  "UTF-8", "latin1",
                                         "cp1252", "ascii", "utf-7", "euc-jp"};
    static const char *const none[] = {"", "klingon", "utf-8//IGNORE", "latin1//TRANSLIT"};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        crnn_decoder *decoder = crnn_decoder_new(wide[i], CRNN_INVALID_ERROR, NULL);
        assert_true(decoder && crnn_decoder_has_zero_bytes(decoder));
        crnn_decoder_free(decoder);
    }
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        crnn_decoder *decoder = crnn_decoder_new(narrow[i], CRNN_INVALID_ERROR, NULL);
        assert_true(decoder && !crnn_decoder_has_zero_bytes(decoder));
        crnn_decoder_free(decoder);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        crnn_error err = {0};
        assert_null(crnn_decoder_new(none[i], CRNN_INVALID_ERROR, &err));
        assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    }
    crnn_decoder_free(NULL);
}

/* Decodes the bytes in blocks of at most `block`; returns how many code points. */
static size_t decode(uint32_t *all, crnn_decoder *decoder, const char *bytes, size_t size, size_t block)
{
    size_t count = 0, at = 0, held = 0;
    uint32_t codes[64];
    crnn_decoder_begin(decoder, "it");
    for (bool over = false; !over;) {
        size_t used, some;
        held = held + block < size - at ? held + block : size - at; /* what was left comes again, with more */
        over = held == 0;
        crnn_error err = {0};
        if (crnn_decoder_run(decoder, codes, held + 16, &some, (const unsigned char *)bytes + at, held,
                             at + held == size, &used, &err) != CRNN_OK)
            fail_msg("%s", err.text);
        memcpy(all + count, codes, some * sizeof *codes);
        count += some;
        at += used;
        held -= used;
    }
    return count;
}

static void assert_decodes(const char *encoding, const char *bytes, size_t size, const uint32_t *wanted, size_t count)
{
    for (int mark = 0; mark < 2; mark++)
        for (size_t block = 1; block <= size; block++) {
            uint32_t all[64];
            crnn_decoder *decoder = crnn_decoder_new(encoding, CRNN_INVALID_REPLACE, NULL);
            assert_non_null(decoder);
            if (mark)
                crnn_decoder_mark_bad(decoder);
            size_t got = decode(all, decoder, bytes, size, block);
            for (size_t i = 0; i < got; i++)
                all[i] = !mark && all[i] == 0xFFFD ? CRNN_BAD_CODE : all[i];
            crnn_decoder_free(decoder);
            assert_int_equal(got, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(all[i], mark ? wanted[i] : wanted[i] >= CRNN_BAD_CODE ? CRNN_BAD_CODE : wanted[i]);
        }
}
#define ASSERT_DECODES(encoding, bytes, ...)                                                                           \
    assert_decodes(encoding, bytes, sizeof(bytes) - 1, (const uint32_t[]){__VA_ARGS__},                                \
                   sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define B(byte) (CRNN_BAD_CODE + (byte))

static void a_text_is_the_same_wherever_its_blocks_end(void **state)
{
    (void)state;
    ASSERT_DECODES("utf-8", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 'a', 0xE9, 0x20AC, 0x1F600, 'z');
    ASSERT_DECODES("utf-8",
                   "\xe2\x82"
                   "a\xff\xc3",
                   B(0xE2), 'a', B(0xFF), B(0xC3));
    ASSERT_DECODES("latin1", "a\xe9", 'a', 0xE9);
    ASSERT_DECODES("utf-16le", "a\0\x3d\xd8\x00\xdez\0", 'a', 0x1F600, 'z');
    ASSERT_DECODES("utf-16le",
                   "\x00\xde"
                   "a\0",
                   B(0), 'a');                       /* half a pair */
    ASSERT_DECODES("utf-16le", "a\0b", 'a', B('b')); /* half a unit at the end */
    ASSERT_DECODES("ascii", "a\xe9z", 'a', B(0xE9), 'z');
    ASSERT_DECODES("big5-hkscs", "\x88\x62\x88\x66", 0xCA, 0x304,
                   0xCA); /* one pair of bytes, two characters; a last one kept back */
    ASSERT_DECODES("euc-jp", "\xc6\xfc\xcb\xdc", 0x65E5, 0x672C);
}

static void what_is_no_text_is_an_error_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *encoding, *bytes, *said;
        size_t size;
    } bad[] = {{"utf-8", "ab\xff", "it: byte 2 (0xff) is not valid UTF-8; name its encoding", 3},
               {"utf-8",
                "\xff\xfe"
                "a\0",
                "it looks like UTF-16", 4},
               {"utf-8", "\xfe\xff\0a", "it looks like UTF-16", 4},
               {"utf-8",
                "\xff"
                "a",
                "name its encoding", 2},
               {"utf-8", "\xfe", "name its encoding", 1},
               {"utf-8",
                "\xfe"
                "a",
                "name its encoding", 2},
               {"ascii", "a\xe9", "byte 1 (0xe9) is not valid ascii", 2},
               {"utf-16le", "a\0b", "byte 2 (0x62)", 3},
               {"ucs-4be", "\0\0\xd8\0", "is no Unicode character", 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        crnn_error err = {0};
        uint32_t codes[32];
        size_t count, used;
        crnn_decoder *decoder = crnn_decoder_new(bad[i].encoding, CRNN_INVALID_ERROR, NULL);
        assert_non_null(decoder);
        crnn_decoder_begin(decoder, "it");
        assert_int_equal(crnn_decoder_run(decoder, codes, 32, &count, (const unsigned char *)bad[i].bytes, bad[i].size,
                                          true, &used, &err),
                         CRNN_ERR_FORMAT);
        if (!strstr(err.text, bad[i].said))
            fail_msg("'%s' is missing in: %s", bad[i].said, err.text);
        crnn_decoder_free(decoder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_encodings_are_known_in_any_case),
        cmocka_unit_test(a_text_is_the_same_wherever_its_blocks_end),
        cmocka_unit_test(what_is_no_text_is_an_error_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
