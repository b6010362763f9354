#include "support/cmocka.h"

#include "host/base/sha256.h"
#include "support/scratch.h"
#include <crnn/batches.h>
#include <crnn/text.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ADDRESS_SANITIZER 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#endif

/* All notes of the present test, one after the other. */
static char notes[8192];

static void keep_note(void *user, const char *sentence)
{
    (void)user;
    strncat(notes, sentence, sizeof notes - strlen(notes) - 2);
    strcat(notes, "\n");
}

static int set_up(void **state)
{
    notes[0] = '\0';
    *state = scratch_new();
    return 0;
}

static int tear_down(void **state)
{
    scratch_remove(*state);
    return 0;
}

static crnn_text_options options(void)
{
    crnn_text_options made = crnn_text_options_default();
    made.note = keep_note;
    return made;
}

static void assert_says(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static crnn_corpus *read_paths(const char *const *paths, int count, crnn_text_options how)
{
    crnn_error err = {0};
    crnn_corpus *corpus = crnn_corpus_read(paths, count, NULL, 0, &how, &err);
    if (!corpus)
        fail_msg("%s", err.text);
    return corpus;
}

static crnn_corpus *read_one(const char *path)
{
    return read_paths(&path, 1, options());
}

static void check_refused(const char *path, crnn_text_options how, crnn_status status, const char *said)
{
    crnn_error err = {0};
    alarm(20); /* nothing may wait for a pipe or read a device without end */
    assert_null(crnn_corpus_read(&path, 1, NULL, 0, &how, &err));
    alarm(0);
    assert_says(err.text, said);
    assert_int_equal(err.status, status);
}

/* Turns ids back into UTF-8. */
static const char *text_of(const crnn_corpus *corpus, crnn_ids ids)
{
    static char text[4096];
    size_t used = 0;
    for (int64_t i = 0; i < ids.count && used < sizeof text - 5; i++)
        used += (size_t)crnn_utf8_encode(text + used, crnn_vocab_codes(crnn_corpus_vocab(corpus))[crnn_ids_at(ids, i)]);
    text[used] = '\0';
    return text;
}

static void assert_trains_on(const crnn_corpus *corpus, const char *expected)
{
    assert_string_equal(text_of(corpus, crnn_corpus_train(corpus)), expected);
}

/* --- the text itself -------------------------------------------------------------------------------------------------- */

static void ids_follow_the_order_of_code_points_and_line_ends_are_kept(void **state)
{
    crnn_corpus *corpus = read_one(scratch_text(*state, "t",
                                                "z\xc3\xb1"
                                                "a\r\na"));
    const uint32_t expected[] = {'\n', '\r', 'a', 'z', 0xF1};
    const uint16_t ids[] = {3, 4, 2, 1, 0, 2};
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), 5);
    assert_memory_equal(crnn_vocab_codes(crnn_corpus_vocab(corpus)), expected, sizeof expected);
    crnn_ids train = crnn_corpus_train(corpus);
    assert_int_equal(train.count, 6);
    assert_int_equal(train.width, 1);
    for (int i = 0; i < 6; i++)
        assert_int_equal(crnn_ids_at(train, i), ids[i]);
    assert_int_equal(crnn_corpus_val(corpus).count, 0);
    assert_int_equal(crnn_corpus_file(corpus, 0).bytes, 7);
    assert_int_equal(crnn_corpus_file(corpus, 0).characters, 6);
    crnn_corpus_free(corpus);
    crnn_corpus_free(NULL);
}

static void files_are_joined_in_the_order_given(void **state)
{
    const char *paths[] = {scratch_text(*state, "b", "first "), scratch_text(*state, "a", "second")};
    crnn_corpus *corpus = read_paths(paths, 2, options());
    assert_trains_on(corpus, "first second");
    assert_int_equal(crnn_corpus_file_count(corpus), 2);
    assert_string_equal(crnn_corpus_file(corpus, 0).path, paths[0]);
    crnn_corpus_free(corpus);
}

static void the_text_is_repeated_as_asked_but_files_count_once(void **state)
{
    const char *path = scratch_text(*state, "t", "0123456789");
    crnn_text_options how = options();
    how.repeat = 3;
    how.val_split = 0.2;
    crnn_corpus *corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "012345670123456701234567");
    assert_string_equal(text_of(corpus, crnn_corpus_val(corpus)), "89");
    assert_int_equal(crnn_corpus_file(corpus, 0).characters, 8);
    assert_int_equal(crnn_corpus_file(corpus, 0).val_characters, 2);
    crnn_corpus_free(corpus);
}

static void the_last_fraction_of_each_file_is_held_out_in_characters(void **state)
{
    const char *paths[] = {scratch_text(*state, "a",
                                        "\xc3\xa1\xc3\xa9\xc3\xad\xc3\xb3\xc3\xba"
                                        "ABCDE"),
                           scratch_text(*state, "b", "0123456789")};
    crnn_text_options how = options();
    how.val_split = 0.3;
    crnn_corpus *corpus = read_paths(paths, 2, how);
    assert_trains_on(corpus, "\xc3\xa1\xc3\xa9\xc3\xad\xc3\xb3\xc3\xba"
                             "AB0123456");
    assert_string_equal(text_of(corpus, crnn_corpus_val(corpus)), "CDE789");
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), 20); /* held-out characters have ids too */
    crnn_corpus_free(corpus);
}

static void held_out_files_drop_and_count_what_the_vocabulary_lacks(void **state)
{
    const char *train = scratch_text(*state, "t", "abc"), *val = scratch_text(*state, "v", "xabyc");
    crnn_error err = {0};
    crnn_text_options how = options();
    crnn_corpus *corpus = crnn_corpus_read(&train, 1, &val, 1, &how, &err);
    assert_non_null(corpus);
    assert_trains_on(corpus, "abc");
    assert_string_equal(text_of(corpus, crnn_corpus_val(corpus)), "abc");
    assert_int_equal(crnn_corpus_unknown(corpus), 2);
    assert_int_equal(crnn_corpus_file(corpus, 1).val_characters, 3);
    assert_int_equal(crnn_corpus_file(corpus, 1).characters, 0);
    crnn_corpus_free(corpus);
}

static void a_text_is_read_with_the_vocabulary_of_a_model(void **state)
{
    const char *path = scratch_text(*state, "t",
                                    "zb\xc3\xa1"
                                    "a");
    crnn_vocab *vocab = crnn_vocab_new((uint32_t[]){'a', 'b', 'c'}, 3, NULL);
    crnn_corpus *corpus = crnn_corpus_read_with(vocab, &path, 1, NULL, NULL);
    crnn_vocab_free(vocab); /* it was copied */
    assert_non_null(corpus);
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), 3);
    assert_trains_on(corpus, "ba");
    assert_int_equal(crnn_corpus_unknown(corpus), 2);
    crnn_corpus_free(corpus);
    vocab = crnn_vocab_new((uint32_t[]){'X'}, 1, NULL);
    corpus = crnn_corpus_read_with(vocab, &path, 1, NULL, NULL);
    assert_int_equal(crnn_corpus_train(corpus).count, 0); /* nothing known is no error here */
    assert_int_equal(crnn_corpus_unknown(corpus), 4);
    crnn_corpus_free(corpus);
    crnn_vocab_free(vocab);
}

static void the_digest_is_that_of_16_bit_ids_and_32_bit_code_points(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 0, 0, 0, 1, 0, 'a', 0, 0, 0, 0x20, 0x20, 0, 0};
    uint8_t digest[32];
    crnn_corpus *corpus = crnn_corpus_from_text("\xe2\x80\xa0"
                                                "a\xe2\x80\xa0",
                                                7, NULL, NULL); /* U+2020 a U+2020 */
    crnn_sha256 *hash = crnn_sha256_new();
    crnn_sha256_add(hash, bytes, sizeof bytes);
    crnn_sha256_end(hash, digest);
    assert_memory_equal(crnn_corpus_sha256(corpus), digest, 32);
    crnn_sha256_free(hash);
    crnn_corpus_free(corpus);
}

static void more_than_256_characters_take_16_bits(void **state)
{
    (void)state;
    char text[257 * 4];
    for (uint32_t V = 256; V <= 257; V++) {
        size_t size = 0;
        for (uint32_t v = V; v-- > 0;)
            size += (size_t)crnn_utf8_encode(text + size, 0x1000 + v);
        crnn_corpus *corpus = crnn_corpus_from_text(text, size, NULL, NULL);
        assert_int_equal(crnn_corpus_train(corpus).width, V > 256 ? 2 : 1);
        for (uint32_t i = 0; i < V; i++)
            assert_int_equal(crnn_ids_at(crnn_corpus_train(corpus), i), V - 1 - i);
        crnn_corpus_free(corpus);
    }
}

static void a_vocabulary_too_large_is_refused_with_its_size(void **state)
{
    (void)state;
    crnn_error err = {0};
    char *text = malloc(70000 * 4);
    size_t size = 0, at_65535 = 0;
    for (uint32_t v = 0; v < 70000; v++) {
        size += (size_t)crnn_utf8_encode(text + size, 0x10000 + v);
        if (v == 65534)
            at_65535 = size;
    }
    assert_null(crnn_corpus_from_text(text, size, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    assert_says(err.text, "70000 distinct characters; at most 65535");
    crnn_corpus *corpus = crnn_corpus_from_text(text, at_65535, NULL, &err);
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), 65535);
    assert_int_equal(crnn_ids_at(crnn_corpus_train(corpus), 65534), 65534);
    crnn_corpus_free(corpus);
    free(text);
}

static void one_character_is_a_text(void **state)
{
    crnn_corpus *corpus = read_one(scratch_text(*state, "t", "a"));
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), 1);
    assert_int_equal(crnn_corpus_train(corpus).count, 1);
    crnn_corpus_free(corpus);
}

/* --- encodings -------------------------------------------------------------------------------------------------------- */

static void a_byte_order_mark_is_dropped_with_a_note_at_the_start_only(void **state)
{
    const char *path = scratch_text(*state, "t",
                                    "\xef\xbb\xbf"
                                    "a\xef\xbb\xbf");
    crnn_corpus *corpus = read_one(path);
    assert_trains_on(corpus, "a\xef\xbb\xbf");
    assert_says(notes, "dropped the byte-order mark");
    crnn_corpus_free(corpus);
    check_refused(scratch_text(*state, "only", "\xef\xbb\xbf"), options(), CRNN_ERR_FORMAT, "no text");
}

static void invalid_utf8_is_refused_with_file_and_byte(void **state)
{
    check_refused(scratch_text(*state, "overlong", "abc\xc0\xaf"), options(), CRNN_ERR_FORMAT,
                  "overlong: byte 3 (0xc0) is not valid UTF-8");
    check_refused(scratch_text(*state, "surrogate", "\xed\xa0\x80"), options(), CRNN_ERR_FORMAT,
                  "surrogate: byte 0 (0xed)");
    check_refused(scratch_text(*state, "cut", "\xc3\xb1\xe2\x82"), options(), CRNN_ERR_FORMAT, "cut: byte 2 (0xe2)");
    check_refused(scratch_text(*state, "a\nb", "\xff"), options(), CRNN_ERR_FORMAT, "a^Jb: byte 0 (0xff)");
    check_refused(scratch_write(*state, "wide",
                                "\xff\xfe"
                                "a",
                                4),
                  options(), CRNN_ERR_FORMAT, "utf-16");
}

/* The number of U+FFFD is that of Python's bytes.decode("utf-8", "replace"). */
static void invalid_bytes_become_replacement_characters_where_asked(void **state)
{
    static const struct {
        const char *bytes;
        int replaced;
    } cases[] = {{"\xc0\xaf", 2},
                 {"\xe2\x82", 1},
                 {"\xe2\x82"
                  "A",
                  1},
                 {"\xf0\x80\x80\x80", 4},
                 {"\xed\xa0\x80", 3},
                 {"\xf4\x90\x80\x80", 4},
                 {"\xf1\x80\x80", 1},
                 {"\xf1\x80\xe1\x80\xc2"
                  "B",
                  3},
                 {"\xff\xfe\xfd", 3},
                 {"A\x80"
                  "B",
                  1}};
    crnn_text_options how = options();
    how.invalid = CRNN_INVALID_REPLACE;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = scratch_text(*state, "t", cases[i].bytes);
        crnn_corpus *corpus = read_paths(&path, 1, how);
        uint16_t replacement = crnn_vocab_id(crnn_corpus_vocab(corpus), 0xFFFD);
        int replaced = 0;
        for (int64_t k = 0; k < crnn_corpus_train(corpus).count; k++)
            replaced += crnn_ids_at(crnn_corpus_train(corpus), k) == replacement;
        assert_int_equal(replaced, cases[i].replaced);
        crnn_corpus_free(corpus);
    }
}

/* The reader works in blocks of 64 KiB: a character, and an error, at every place around the first edge. */
static void a_character_may_lie_across_two_blocks(void **state)
{
    static char text[70000];
    for (size_t before = 65530; before < 65540; before++) {
        crnn_error err = {0};
        memset(text, 'a', sizeof text);
        memcpy(text + before, "\xf0\x9f\x98\x80", 4);
        crnn_corpus *corpus = crnn_corpus_from_text(text, sizeof text, NULL, &err);
        assert_int_equal(crnn_corpus_train(corpus).count, sizeof text - 3);
        assert_int_equal(crnn_ids_at(crnn_corpus_train(corpus), (int64_t)before), 1);
        crnn_corpus_free(corpus);
        char said[64];
        text[before + 3] = 'a';
        snprintf(said, sizeof said, "byte %zu (0xf0)", before);
        check_refused(scratch_write(*state, "t", text, sizeof text), options(), CRNN_ERR_FORMAT, said);
    }
}

static void other_encodings_come_through_iconv(void **state)
{
    crnn_text_options how = options();
    const char *path = scratch_text(*state, "latin", "ni\xf1o");
    how.encoding = "iso-8859-1";
    crnn_corpus *corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "ni\xc3\xb1o");
    crnn_corpus_free(corpus);
    path = scratch_write(*state, "wide", "\xff\xfe\xf1\0\x3d\xd8\0\xde", 8);
    how.encoding = "utf-16";
    corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "\xc3\xb1\xf0\x9f\x98\x80");
    crnn_corpus_free(corpus);
    how.encoding = "utf-16le"; /* which leaves the mark to us */
    corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "\xc3\xb1\xf0\x9f\x98\x80");
    assert_says(notes, "byte-order mark");
    crnn_corpus_free(corpus);
    const char *dir = *state; /* zero bytes are no sign of a binary file there */
    remove(scratch_path(dir, "latin"));
    corpus = read_paths(&dir, 1, how);
    assert_int_equal(crnn_corpus_file_count(corpus), 1);
    crnn_corpus_free(corpus);
}

static void bad_bytes_of_other_encodings_are_refused_or_replaced(void **state)
{
    crnn_text_options how = options();
    how.encoding = "utf-16le";
    const char *path = scratch_write(*state, "lone",
                                     "a\0\0\xd8"
                                     "b\0",
                                     6); /* half a pair */
    check_refused(path, how, CRNN_ERR_FORMAT, "lone: byte 2 (0x00) is not valid utf-16le");
    how.invalid = CRNN_INVALID_REPLACE;
    crnn_corpus *corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "a\xef\xbf\xbd"
                             "b");
    crnn_corpus_free(corpus);
    path = scratch_write(*state, "cut", "a\0b", 3);
    corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "a\xef\xbf\xbd");
    crnn_corpus_free(corpus);
    how.invalid = CRNN_INVALID_ERROR;
    check_refused(path, how, CRNN_ERR_FORMAT, "cut: byte 2 (0x62)");
    how.encoding = "UCS-4LE";
    path = scratch_write(*state, "beyond", "a\0\0\0\0\0\x11\0", 8);
    check_refused(path, how, CRNN_ERR_FORMAT, "beyond: ");
    how.invalid = CRNN_INVALID_REPLACE;
    corpus = read_paths(&path, 1, how);
    assert_trains_on(corpus, "a\xef\xbf\xbd");
    crnn_corpus_free(corpus);
    how.encoding = "no-such\x1b";
    check_refused(path, how, CRNN_ERR_ARGUMENT, "no such encoding: \"no-such^[\"");
    how.encoding = "latin1//IGNORE";
    check_refused(path, how, CRNN_ERR_ARGUMENT, "no such encoding");
    how.encoding = "";
    check_refused(path, how, CRNN_ERR_ARGUMENT, "no such encoding");
}

/* --- which files ------------------------------------------------------------------------------------------------------ */

static void a_directory_gives_its_texts_in_byte_order_each_once(void **state)
{
    const char *dir = *state;
    scratch_text(dir, "b", "2");
    scratch_text(dir, "B", "1");
    scratch_text(dir, "\xc3\xa1", "3");
    scratch_write(dir, "b.dat", "\xff\0x", 3); /* not valid UTF-8 either: the zero byte decides */
    scratch_text(dir, "empty", "");
    scratch_text(dir, ".hidden", "x");
    assert_int_equal(symlink("b", scratch_path(dir, "b.u8")), 0);
    assert_int_equal(link(scratch_path(dir, "b"), scratch_path(dir, "hard")), 0);
    assert_int_equal(symlink("nowhere", scratch_path(dir, "dangling")), 0);
    assert_int_equal(mkfifo(scratch_path(dir, "pipe"), 0600), 0);
    assert_int_equal(mkdir(scratch_path(dir, "deeper"), 0700), 0);
    scratch_text(dir, "deeper/c", "no");
    crnn_corpus *corpus = read_one(dir);
    assert_trains_on(corpus, "123");
    assert_says(notes, "skipped 1 file with NUL bytes: ");
    assert_says(notes, "skipped 1 empty file: ");
    assert_says(notes, "skipped 2 files with more than one name: ");
    crnn_corpus_free(corpus);
}

static void a_glob_gives_its_matches_in_byte_order_each_once(void **state)
{
    scratch_text(*state, "b.txt", "2");
    scratch_text(*state, "A.txt", "1");
    scratch_text(*state, "c.dat", "no");
    assert_int_equal(symlink("A.txt", scratch_path(*state, "z.txt")), 0);
    crnn_corpus *corpus = read_one(scratch_path(*state, "*.txt"));
    assert_trains_on(corpus, "12");
    crnn_corpus_free(corpus);
    scratch_text(*state, "[b].txt", "itself"); /* a name that is there is no pattern */
    corpus = read_one(scratch_path(*state, "[b].txt"));
    assert_trains_on(corpus, "itself");
    crnn_corpus_free(corpus);
    check_refused(scratch_path(*state, "*.none"), options(), CRNN_ERR_IO, "no file matches");
}

static void a_file_named_itself_is_not_read_again_with_its_directory(void **state)
{
    const char *dir = *state;
    const char *b = scratch_text(dir, "b", "2");
    scratch_text(dir, "a", "1");
    const char *before[] = {b, dir}, *after[] = {dir, b}, *twice[] = {b, b};
    crnn_corpus *corpus = read_paths(before, 2, options());
    assert_trains_on(corpus, "21");
    crnn_corpus_free(corpus);
    corpus = read_paths(after, 2, options());
    assert_trains_on(corpus, "12");
    crnn_corpus_free(corpus);
    corpus = read_paths(twice, 2, options());
    assert_trains_on(corpus, "22"); /* what was asked for by name is done, and said */
    assert_says(notes, "hold the same text");
    crnn_corpus_free(corpus);
}

static void two_inputs_with_the_same_text_are_noted(void **state)
{
    const char *paths[] = {scratch_text(*state, "one", "same"), scratch_text(*state, "other", "else"),
                           scratch_text(*state, "two", "same")};
    crnn_corpus *corpus = read_paths(paths, 3, options());
    assert_says(notes, "/one and ");
    assert_says(notes, "/two hold the same text");
    assert_null(strstr(notes, "other"));
    crnn_corpus_free(corpus);
}

static void what_is_held_out_is_not_trained_on_with_its_directory(void **state)
{
    const char *dir = *state;
    const char *val = scratch_text(dir, "b", "2");
    crnn_text_options how = options();
    scratch_text(dir, "a", "12");
    crnn_corpus *corpus = crnn_corpus_read(&dir, 1, &val, 1, &how, NULL);
    assert_trains_on(corpus, "12");
    assert_string_equal(text_of(corpus, crnn_corpus_val(corpus)), "2");
    assert_says(notes, "skipped 1 held-out file: ");
    crnn_corpus_free(corpus);
}

/* --- bad input -------------------------------------------------------------------------------------------------------- */

static void what_is_no_text_file_is_refused(void **state)
{
    const char *dir = scratch_path(*state, "dir"), *pipe_path = scratch_path(*state, "pipe");
    check_refused(scratch_text(*state, "empty", ""), options(), CRNN_ERR_FORMAT, "empty is empty");
    check_refused(scratch_path(*state, "none"), options(), CRNN_ERR_IO, "none: No such file");
    check_refused("/dev/zero", options(), CRNN_ERR_IO, "is a device");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    check_refused(pipe_path, options(), CRNN_ERR_IO, "is a pipe");
    assert_int_equal(mkdir(dir, 0700), 0);
    check_refused(dir, options(), CRNN_ERR_IO, "no regular files");
    scratch_write(dir, "binary", "\0", 1);
    check_refused(dir, options(), CRNN_ERR_FORMAT, "there is no text");
    crnn_error err = {0};
    assert_null(crnn_corpus_read(NULL, 0, NULL, 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    assert_null(crnn_corpus_from_text("", 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
}

static void nul_characters_of_a_file_named_itself_are_kept_and_noted(void **state)
{
    crnn_corpus *corpus = read_one(scratch_write(*state, "t", "a\0b", 3));
    assert_int_equal(crnn_corpus_train(corpus).count, 3);
    assert_int_equal(crnn_vocab_codes(crnn_corpus_vocab(corpus))[0], 0);
    assert_says(notes, "has NUL characters");
    crnn_corpus_free(corpus);
}

static void options_out_of_range_are_refused(void **state)
{
    const char *path = scratch_text(*state, "t", "abc");
    crnn_text_options how = options();
    how.repeat = 0;
    check_refused(path, how, CRNN_ERR_ARGUMENT, "at least 1 time");
    how = options();
    for (int i = 0; i < 3; i++) {
        how.val_split = (double[]){-0.1, 1.0, NAN}[i];
        check_refused(path, how, CRNN_ERR_ARGUMENT, "lies in [0, 1)");
    }
}

/* The note about the byte-order mark comes after the first block: the moment to change the file. */
static char changing[4096];
static off_t change_to;

static void change_the_file(void *user, const char *sentence)
{
    (void)user, (void)sentence;
    if (truncate(changing, change_to) != 0)
        perror(changing);
}

static void a_file_that_grows_or_shrinks_while_it_is_read_is_an_error(void **state)
{
    static char text[200000];
    crnn_text_options how = options();
    how.note = change_the_file;
    memset(text, 'a', sizeof text);
    memcpy(text, "\xef\xbb\xbf", 3);
    strcpy(changing, scratch_write(*state, "t", text, sizeof text));
    change_to = 100000;
    check_refused(changing, how, CRNN_ERR_IO, "became shorter while it was read");
    scratch_write(*state, "t", text, sizeof text);
    change_to = sizeof text + 1;
    check_refused(changing, how, CRNN_ERR_IO, "grew while it was read");
}

/* --- the whole -------------------------------------------------------------------------------------------------------- */

static void reading_takes_at_most_three_times_the_size_of_the_file(void **state)
{
#ifdef UNDER_ADDRESS_SANITIZER
    (void)state;
    skip(); /* its allocator keeps what is freed */
#else
    const size_t size = 24U << 20;
    char *text = malloc(size);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)('a' + i % 26); /* one line of 24 MB */
    const char *path = scratch_write(*state, "t", text, size);
    free(text);
    pid_t child = fork();
    if (child == 0) {
        /* The high-water mark is inherited: what counts is that the limit on the data segment suffices. */
        struct rlimit limit = {3 * size + (8U << 20), 3 * size + (8U << 20)};
        setrlimit(RLIMIT_DATA, &limit);
        crnn_corpus *corpus = crnn_corpus_read(&path, 1, NULL, 0, NULL, NULL);
        _exit(corpus && crnn_corpus_train(corpus).count == (int64_t)size ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
#endif
}

static void check_book(const char *path)
{
    size_t returns = 0, newlines = 0, counted = 0;
    crnn_corpus *corpus = read_one(path);
    crnn_ids train = crnn_corpus_train(corpus);
    uint16_t cr = crnn_vocab_id(crnn_corpus_vocab(corpus), '\r');
    FILE *file = fopen(path, "rb");
    for (int c; (c = getc(file)) != EOF;) {
        counted += (c & 0xC0) != 0x80;
        returns += c == '\r';
        newlines += c == '\n';
    }
    fclose(file);
    for (int64_t i = 0; i < train.count; i++)
        returns -= crnn_ids_at(train, i) == cr;
    assert_int_equal(returns, 0); /* every one of them is still there */
    assert_true(newlines > 1000);
    assert_int_equal(train.count + (strstr(notes, "byte-order mark") != NULL), counted);
    assert_true(crnn_vocab_id(crnn_corpus_vocab(corpus), 0xF1) != CRNN_NO_ID); /* ñ */
    printf("%s: %lld characters, V %ld\n", path, (long long)train.count,
           (long)crnn_vocab_size(crnn_corpus_vocab(corpus)));
    crnn_corpus_free(corpus);
}

static void a_real_spanish_book_keeps_its_line_ends(void **state)
{
    (void)state;
    const char *path = scratch_shared("corpora/55514-0.txt");
    if (!path)
        skip();
    check_book(path);
}

static void the_fortunes_of_debian_are_read_once(void **state)
{
    (void)state;
    const char *dir = "/usr/share/games/fortunes/es", *glob = "/usr/share/games/fortunes/es/*.fortunes";
    if (access(dir, R_OK) != 0)
        skip();
    crnn_corpus *all = read_one(dir), *some = read_one(glob);
    assert_true(crnn_corpus_train(some).count > 800000);
    assert_true(crnn_corpus_train(all).count >= crnn_corpus_train(some).count);
    assert_true(crnn_corpus_train(all).count < crnn_corpus_train(some).count * 11 / 10);
    assert_int_equal(crnn_vocab_id(crnn_corpus_vocab(all), 0), CRNN_NO_ID);
    crnn_corpus_free(all);
    crnn_corpus_free(some);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ids_follow_the_order_of_code_points_and_line_ends_are_kept),
        TEST(files_are_joined_in_the_order_given),
        TEST(the_text_is_repeated_as_asked_but_files_count_once),
        TEST(the_last_fraction_of_each_file_is_held_out_in_characters),
        TEST(held_out_files_drop_and_count_what_the_vocabulary_lacks),
        TEST(a_text_is_read_with_the_vocabulary_of_a_model),
        TEST(the_digest_is_that_of_16_bit_ids_and_32_bit_code_points),
        TEST(more_than_256_characters_take_16_bits),
        TEST(a_vocabulary_too_large_is_refused_with_its_size),
        TEST(one_character_is_a_text),
        TEST(a_byte_order_mark_is_dropped_with_a_note_at_the_start_only),
        TEST(invalid_utf8_is_refused_with_file_and_byte),
        TEST(invalid_bytes_become_replacement_characters_where_asked),
        TEST(a_character_may_lie_across_two_blocks),
        TEST(other_encodings_come_through_iconv),
        TEST(bad_bytes_of_other_encodings_are_refused_or_replaced),
        TEST(a_directory_gives_its_texts_in_byte_order_each_once),
        TEST(a_glob_gives_its_matches_in_byte_order_each_once),
        TEST(a_file_named_itself_is_not_read_again_with_its_directory),
        TEST(two_inputs_with_the_same_text_are_noted),
        TEST(what_is_held_out_is_not_trained_on_with_its_directory),
        TEST(what_is_no_text_file_is_refused),
        TEST(nul_characters_of_a_file_named_itself_are_kept_and_noted),
        TEST(options_out_of_range_are_refused),
        TEST(a_file_that_grows_or_shrinks_while_it_is_read_is_an_error),
        TEST(reading_takes_at_most_three_times_the_size_of_the_file),
        TEST(a_real_spanish_book_keeps_its_line_ends),
        TEST(the_fortunes_of_debian_are_read_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
