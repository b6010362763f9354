/* Repeated passages against a search that tries everything, and the lines of squeezed text. */
#include "support/cmocka.h"

#include "host/base/rng.h"
#include "host/data/passages.h"
#include "host/data/squeezed.h"
#include <stdlib.h>
#include <string.h>

enum { TEXT = 6000 };

static unsigned draw(uint64_t *counter, unsigned bound)
{
    return (unsigned)crnn_uniform_below(5, 0, counter, bound);
}

/* Random letters with copies of earlier passages among them. */
static void make_text(unsigned char text[TEXT], uint64_t *counter)
{
    for (size_t i = 0; i < TEXT;) {
        size_t length = 20 + draw(counter, 400);
        length = length < TEXT - i ? length : TEXT - i;
        if (i > 0 && draw(counter, 2)) {
            size_t from = draw(counter, (unsigned)i);
            for (size_t k = 0; k < length; k++)
                text[i + k] = text[from + k] == '\n' && draw(counter, 2) ? ' ' : text[from + k];
        } else {
            for (size_t k = 0; k < length; k++)
                text[i + k] = (unsigned char)(draw(counter, 9) ? 'a' + draw(counter, 26) : '\n');
        }
        i += length;
    }
}

static bool same(unsigned char a, unsigned char b)
{
    return (a == '\n' ? ' ' : a) == (b == '\n' ? ' ' : b);
}

/* Marks all bytes of every passage of CRNN_PASSAGE bytes that stands somewhere before, without crossing the end of a part. */
static void search(bool repeated[TEXT], const unsigned char *text, int64_t half)
{
    memset(repeated, 0, TEXT * sizeof *repeated);
    for (int64_t at = 1; at < TEXT; at++)
        for (int64_t first = 0; first < at; first++) {
            int64_t k = 0;
            while (at + k < TEXT && (at >= half || at + k < half) && (first >= half || first + k < half) &&
                   first + k < at && same(text[first + k], text[at + k]))
                k++;
            if (k >= CRNN_PASSAGE)
                memset(repeated + at, 1, (size_t)k * sizeof *repeated);
        }
}

static void every_repeat_is_found_and_nothing_else(void **state)
{
    (void)state;
    uint64_t counter = 0;
    int64_t all = 0;
    for (int round = 0; round < 12; round++) {
        unsigned char text[TEXT];
        bool repeated[TEXT];
        crnn_passage *found;
        size_t count;
        int64_t half = 1 + draw(&counter, TEXT - 1), missed = 0;
        make_text(text, &counter);
        search(repeated, text, half);
        assert_int_equal(crnn_passages_find(&found, &count, text, (int64_t[]){half, TEXT}, 2, NULL), 0);
        for (size_t i = 0; i < count; i++) {
            assert_true(found[i].length >= CRNN_PASSAGE);
            assert_true(found[i].first + found[i].length <= found[i].at);
            assert_true(i == 0 || found[i - 1].at + found[i - 1].length <= found[i].at);
            assert_true(found[i].at >= half || found[i].at + found[i].length <= half);
            for (int64_t k = 0; k < found[i].length; k++) {
                assert_true(same(text[found[i].first + k], text[found[i].at + k]));
                assert_true(repeated[found[i].at + k]);
                repeated[found[i].at + k] = false;
            }
            all += found[i].length;
        }
        /* What repeats the end of one repeat, an original and the begin of the next, each too short by itself, may be left. */
        for (int64_t i = 0; i < TEXT; i++) {
            missed = repeated[i] ? missed + 1 : 0;
            assert_true(missed < 3 * CRNN_PASSAGE);
        }
        free(found);
    }
    assert_true(all > 10000);
}

static void nothing_is_found_where_there_is_little_or_nothing(void **state)
{
    (void)state;
    crnn_passage *found;
    size_t count;
    unsigned char text[CRNN_PASSAGE] = {0};
    assert_int_equal(crnn_passages_find(&found, &count, text, NULL, 0, NULL), 0);
    assert_int_equal(count, 0);
    free(found);
    assert_int_equal(crnn_passages_find(&found, &count, text, (int64_t[]){0, 0, CRNN_PASSAGE}, 3, NULL), 0);
    assert_int_equal(count, 0);
    free(found);
}

/* A period of one byte: the search must not look at it again and again. */
static void a_text_of_one_letter_is_done_in_linear_time(void **state)
{
    (void)state;
    int64_t size = 1 << 23, covered = 0;
    unsigned char *text = malloc((size_t)size);
    crnn_passage *found;
    size_t count;
    assert_non_null(text);
    memset(text, 'a', (size_t)size);
    assert_int_equal(crnn_passages_find(&found, &count, text, &size, 1, NULL), 0);
    for (size_t i = 0; i < count; i++)
        covered += found[i].length;
    assert_true(covered > size - 2 * CRNN_PASSAGE);
    free(found);
    free(text);
}

/* --- squeezed text ------------------------------------------------------------------------------------------------------ */

static void squeeze(crnn_squeezed *text, const char *from)
{
    for (; *from; from++)
        assert_int_equal(crnn_squeezed_add(text, (unsigned char)*from, NULL), 0);
    assert_int_equal(crnn_squeezed_end(text, NULL), 0);
}

static void white_space_is_squeezed_and_line_ends_are_one(void **state)
{
    (void)state;
    crnn_squeezed text = {0};
    squeeze(&text, "  a \t b  \r\nc\r\rd \n\n  e  f");
    assert_int_equal(text.count, 14);
    assert_memory_equal(text.bytes, "a b\nc\n\nd\n\ne f\n", 14);
    squeeze(&text, " g");
    assert_memory_equal(text.bytes + text.count - 4, "f\ng\n", 4);
    assert_int_equal(text.lines, 7);
    squeeze(&text, "h\r "); /* a second line, of a blank */
    assert_int_equal(text.lines, 9);
    squeeze(&text, " ");
    assert_int_equal(text.lines, 10);
    squeeze(&text, "");
    assert_int_equal(text.lines, 10);
    crnn_squeezed_free(&text);
}

static void every_byte_knows_its_line(void **state)
{
    (void)state;
    crnn_squeezed text = {0};
    int64_t lines = 0;
    for (int i = 0; i < 30000; i++) {
        crnn_squeezed_add(&text, 0x20AC, NULL);
        if (i % 7 == 0)
            crnn_squeezed_add(&text, '\n', NULL);
    }
    assert_true(text.count > 1 << 16);
    for (size_t at = 0; at < text.count; at++) {
        if (at % 97 == 0 || text.bytes[at] == '\n')
            assert_int_equal(crnn_squeezed_lines_before(&text, at), lines);
        lines += text.bytes[at] == '\n';
    }
    assert_int_equal(text.lines, lines);
    crnn_squeezed_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_repeat_is_found_and_nothing_else),
        cmocka_unit_test(nothing_is_found_where_there_is_little_or_nothing),
        cmocka_unit_test(a_text_of_one_letter_is_done_in_linear_time),
        cmocka_unit_test(white_space_is_squeezed_and_line_ends_are_one),
        cmocka_unit_test(every_byte_knows_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
