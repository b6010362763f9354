/* What is fed to the program as a text, and is none, or a strange one: status, time and memory of each. */
#include "support/cmocka.h"
#include "support/program.h"
#include "support/said.h"
#include "support/scratch.h"
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static program_run run;
static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    program_free(&run);
    scratch_remove(dir);
    return 0;
}

/* Mapping all memory in shadow, a sanitizer's figure means nothing. */
static void assert_small(long most_mib)
{
#if !defined(__SANITIZE_ADDRESS__)
    if (run.peak_kib > most_mib * 1024)
        fail_msg("the peak was %ld MiB, not %ld", run.peak_kib / 1024, most_mib);
#else
    (void)most_mib;
#endif
}

/* Every command that reads texts says the same of what is none, soon, and takes no memory for it. */
static void assert_no_text(const char *name, const char *piece)
{
    program_do(&run, dir, "corpus", name);
    assert_refused(run, 3, piece);
    assert_small(64);
    assert_true(run.seconds < 10);
    program_do(&run, dir, "train", name, "--out", "run", "--device", "cpu");
    assert_refused(run, 3, piece);
    assert_small(64);
    assert_true(run.seconds < 10);
    struct stat info;
    assert_int_not_equal(stat(scratch_path(dir, "run"), &info), 0);
}

static void what_is_no_file_is_refused_without_waiting(void **state)
{
    (void)state;
    assert_no_text("nowhere.txt", "nowhere.txt");
    assert_no_text("nothing-*.txt", "nothing-*.txt");
    assert_int_equal(mkfifo(scratch_path(dir, "fifo"), 0600), 0);
    assert_no_text("fifo", "fifo");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", scratch_path(dir, "socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_no_text("socket", "socket");
    close(fd);
    assert_no_text("/dev/zero", "/dev/zero");
    assert_no_text("/dev/null", "/dev/null");
    mkdir(scratch_path(dir, "empty"), 0700);
    assert_no_text("empty", "empty");
    scratch_text(dir, "file.txt", "text");
    assert_no_text("file.txt/below", "file.txt/below");
    char name[400];
    memset(name, 'n', 300);
    name[300] = 0;
    assert_no_text(name, "nnn");
}

static void a_file_that_may_not_be_read_is_told(void **state)
{
    (void)state;
    if (geteuid() == 0)
        skip();
    chmod(scratch_text(dir, "closed.txt", "text"), 0);
    assert_no_text("closed.txt", "closed.txt");
}

static void too_short_a_text_says_how_much_is_needed(void **state)
{
    (void)state;
    scratch_text(dir, "empty.txt", "");
    assert_no_text("empty.txt", "empty");
    scratch_text(dir, "one.txt", "a");
    program_do(&run, dir, "corpus", "one.txt");
    assert_done(run);
    assert_holds(run.out, "1 characters, 1 distinct");
    program_do(&run, dir, "train", "one.txt", "--out", "run", "--device", "cpu");
    assert_refused(run, 3, "6401");
    scratch_text(dir, "short.txt", "not quite enough for a batch of sixty-four rows");
    program_do(&run, dir, "train", "short.txt", "--out", "run", "--device", "cpu", "--val-split", "0");
    assert_refused(run, 3, "6401");
    program_do(&run, dir, "train", "short.txt", "--out", "run", "--device", "cpu", "--batching", "windows",
               "--val-split", "0");
    assert_refused(run, 3, "6464");
}

static void bytes_that_are_no_utf8_are_told_with_their_place(void **state)
{
    (void)state;
    static const char *const bad[] = {"abc\xc0\x80",     "abc\xed\xa0\x80",        "abc\xe2\x82",
                                      "abc\xff",         "abc\xf4\x90\x80\x80",    "abc\x80",
                                      "abc\xc3(rest",    "abc\xf0\x80\x80\xaf",    "abc\xfe\xfe\xff\xff",
                                      "abc\xe0\x80\xaf", "abc\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scratch_text(dir, "bad.txt", bad[i]);
        assert_no_text("bad.txt", "bad.txt");
        assert_holds(run.err, "3");
        program_do(&run, dir, "corpus", "bad.txt", "--invalid", "replace", "--json");
        assert_done(run);
        json_t *json = json_of(run), *codes = json_object_get(json, "codes");
        assert_int_equal(json_integer_value(json_array_get(codes, json_array_size(codes) - 1)), 0xfffd);
        json_decref(json);
    }
}

static void marks_zeros_and_line_ends_are_kept_or_told(void **state)
{
    (void)state;
    scratch_text(dir, "bom.txt", "\xef\xbb\xbfhola");
    program_do(&run, dir, "corpus", "bom.txt", "--json");
    assert_done(run);
    assert_holds(run.err, "byte-order mark");
    assert_holds(run.out, "\"characters\":4");
    scratch_write(dir, "zeros.txt", "a\0b\0c", 5);
    program_do(&run, dir, "corpus", "zeros.txt", "--json");
    assert_done(run); /* named by hand, it is taken as it is */
    assert_holds(run.out, "\"characters\":5");
    mkdir(scratch_path(dir, "mixed"), 0700);
    scratch_write(dir, "mixed/zeros.dat", "a\0b\0c", 5);
    scratch_text(dir, "mixed/text", "abc");
    program_do(&run, dir, "corpus", "mixed", "--json");
    assert_done(run);
    assert_holds(run.err, "zeros.dat");
    assert_holds(run.out, "\"characters\":3");
    scratch_text(dir, "crlf.txt", "a\r\nb\r\n");
    program_do(&run, dir, "corpus", "crlf.txt");
    assert_done(run);
    assert_holds(run.out, "'a\\r\\nb\\r\\n'");
    assert_holds(run.out, "6 characters, 4 distinct");
}

static void other_encodings_come_through_iconv(void **state)
{
    (void)state;
    scratch_text(dir, "latin.txt", "a\xf1o");
    assert_no_text("latin.txt", "latin.txt");
    program_do(&run, dir, "corpus", "latin.txt", "--encoding", "latin1");
    assert_done(run);
    assert_holds(run.out, "'a\xc3\xb1o'");
    program_do(&run, dir, "corpus", "latin.txt", "--encoding", "klingon");
    assert_refused(run, 2, "klingon");
}

/* Names in messages are escaped: one that holds a line end or an escape sequence cannot forge a line or move the cursor. */
static void names_are_escaped_in_messages(void **state)
{
    (void)state;
    program_do(&run, dir, "corpus", "no\nsuch\033[2Jfile");
    assert_refused(run, 3, "such");
    assert_null(strchr(run.err, '\033'));
}

static void one_character_alone_is_learnt_at_loss_0(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'a', sizeof text);
    scratch_write(dir, "same.txt", text, sizeof text);
    program_do(&run, dir, "train", "same.txt", "--batch", "2", "--length", "10", "--units", "4", "--max-steps", "3",
               "--json", "--device", "cpu", "--out", "same");
    assert_done(run);
    json_t *json = json_of(run), *epoch = json_array_get(json_object_get(json, "epochs"), 0);
    assert_true(json_real_value(json_object_get(epoch, "loss_mean")) == 0);
    assert_true(json_real_value(json_object_get(epoch, "accuracy")) == 1);
    json_decref(json);
    program_do(&run, dir, "sample", "same", "--length", "5", "--device", "cpu");
    assert_done(run);
    assert_string_equal(run.out, "aaaaaa");
}

static void too_many_distinct_characters_are_counted(void **state)
{
    (void)state;
    FILE *file = fopen(scratch_path(dir, "all.txt"), "w");
    for (uint32_t code = 0x10000; code < 0x10000 + 65536; code++) {
        char bytes[4] = {(char)(0xf0 | code >> 18), (char)(0x80 | (code >> 12 & 63)), (char)(0x80 | (code >> 6 & 63)),
                         (char)(0x80 | (code & 63))};
        fwrite(bytes, 1, 4, file);
    }
    fclose(file);
    program_do(&run, dir, "corpus", "all.txt");
    assert_refused(run, 3, "65536");
}

/* A gibibyte in the long tier (docs/TESTING.md). */
static void a_long_line_takes_no_more_memory_than_three_times_the_file(void **state)
{
    (void)state;
    const char *tier = getenv("CRNN_TRUST");
    const int mib = tier && strcmp(tier, "long") == 0 ? 1024 : 64;
    char *block = malloc(1 << 20), count[64];
    snprintf(count, sizeof count, "\"characters\":%ld", (long)mib << 20);
    FILE *file = fopen(scratch_path(dir, "line.txt"), "w");
    for (int i = 0; i < 1 << 20; i++)
        block[i] = (char)('a' + i % 26);
    for (int i = 0; i < mib; i++)
        fwrite(block, 1, 1 << 20, file);
    fclose(file);
    free(block);
    program_do(&run, dir, "corpus", "line.txt", "--json");
    assert_done(run);
    assert_holds(run.out, count);
    assert_small(3 * mib + 32);
    remove(scratch_path(dir, "line.txt"));
}

/* Sizes whose products pass 2^31 and 2^63: refused before anything is allocated, with the figures. */
static void sizes_beyond_memory_are_told_before_the_first_step(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'a', sizeof text);
    text[5] = 'b';
    scratch_write(dir, "a.txt", text, sizeof text);
    static const char *const units[] = {"100000", "1000000", "16777216"};
    for (size_t i = 0; i < 3; i++) {
        program_do(&run, dir, "train", "a.txt", "--batch", "2", "--length", "10", "--units", units[i], "--layers",
                   i ? "64" : "1", "--device", "cpu", "--out", "large");
        assert_int_not_equal(run.status, 0);
        assert_true(run.status == 1 || run.status == 2 || run.status == 4);
        assert_holds(run.err, "memory");
        assert_true(run.seconds < 10);
        assert_small(128);
        struct stat info;
        assert_int_not_equal(stat(scratch_path(dir, "large"), &info), 0);
    }
    program_do(&run, dir, "train", "a.txt", "--batch", "16777216", "--length", "16777216", "--device", "cpu", "--out",
               "large");
    assert_refused(run, 3, "need at least");
    program_do(&run, dir, "bench", "--units", "16777216", "--batch", "16777216", "--length", "16777216", "--layers",
               "64", "--device", "cpu");
    assert_int_not_equal(run.status, 0);
    assert_holds(run.err, "memory");
    assert_true(run.seconds < 10);
}

static void the_same_text_twice_is_told(void **state)
{
    (void)state;
    scratch_text(dir, "once.txt",
                 "Era un libro que se le\xc3\xad"
                 "a dos veces.\n");
    scratch_text(dir, "twice.txt",
                 "Era un libro que se le\xc3\xad"
                 "a dos veces.\n");
    program_do(&run, dir, "corpus", "once.txt", "twice.txt");
    assert_done(run);
    assert_holds(run.err, "same text");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_file_is_refused_without_waiting),
        cmocka_unit_test(a_file_that_may_not_be_read_is_told),
        cmocka_unit_test(too_short_a_text_says_how_much_is_needed),
        cmocka_unit_test(bytes_that_are_no_utf8_are_told_with_their_place),
        cmocka_unit_test(marks_zeros_and_line_ends_are_kept_or_told),
        cmocka_unit_test(other_encodings_come_through_iconv),
        cmocka_unit_test(names_are_escaped_in_messages),
        cmocka_unit_test(one_character_alone_is_learnt_at_loss_0),
        cmocka_unit_test(too_many_distinct_characters_are_counted),
        cmocka_unit_test(a_long_line_takes_no_more_memory_than_three_times_the_file),
        cmocka_unit_test(sizes_beyond_memory_are_told_before_the_first_step),
        cmocka_unit_test(the_same_text_twice_is_told),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
