/* Limits before allocations: a hostile file is refused with the sentence it deserves in its own size and 16 MiB of memory. */
#include "support/cmocka.h"

#include "host/base/sha256.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
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

enum { MEBIBYTE = 1 << 20 };

typedef crnn_status (*reader)(const char *path, crnn_error *err);

static crnn_status read_checkpoint(const char *path, crnn_error *err)
{
    crnn_checkpoint *c = crnn_checkpoint_read(path, err);
    crnn_checkpoint_free(c);
    return c ? CRNN_OK : err->status;
}

static crnn_status read_weights(const char *path, crnn_error *err)
{
    static float weights[65536];
    const crnn_model_sizes sizes = {3, 2, 2, 1, 0};
    return crnn_weights_read(path, &sizes, weights, err);
}

/* The first bad file of the run in the directory. */
static void keep_bad(void *user, const char *path, bool sound, const char *what)
{
    (void)path;
    crnn_error *err = user;
    if (!sound && err->status == CRNN_OK)
        crnn_fail(err, CRNN_ERR_FORMAT, "%s", what);
}

static crnn_status verify_run(const char *path, crnn_error *err)
{
    crnn_error bad = {0};
    crnn_status status = crnn_verify(path, keep_bad, &bad, err);
    if (bad.status != CRNN_OK)
        *err = bad;
    return status;
}

/* Bytes that count for RLIMIT_DATA. */
static rlim_t data_bytes(void)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "VmData: %lu kB", &kib);
    if (file)
        fclose(file);
    return (rlim_t)kib * 1024;
}

/* Reads in a process of its own with room for `more` bytes; 0: any number. */
static crnn_error read_within(reader read_it, const char *path, rlim_t more)
{
    crnn_error err = {0};
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {data_bytes() + more, data_bytes() + more};
        if (more && setrlimit(RLIMIT_DATA, &limit) != 0)
            _exit(1);
        read_it(path, &err);
        _exit(write(ends[1], &err, sizeof err) == sizeof err ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &err, sizeof err), sizeof err);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return err;
}

static void assert_frugal(reader read_it, const char *path, size_t size, const char *said)
{
    crnn_error free_of_limits = read_within(read_it, path, 0);
    if (free_of_limits.status != CRNN_ERR_FORMAT || !strstr(free_of_limits.text, said))
        fail_msg("'%s' is not what was said of %s: %s", said, path, free_of_limits.text);
#ifndef UNDER_ADDRESS_SANITIZER /* its own memory counts as well */
    crnn_error limited = read_within(read_it, path, size + 16 * MEBIBYTE);
    if (strcmp(limited.text, free_of_limits.text) != 0)
        fail_msg("within %zu bytes and 16 MiB: %s; without a limit: %s", size, limited.text, free_of_limits.text);
#else
    (void)size;
#endif
}

/* --- headers ------------------------------------------------------------------------------------------------------------ */

/* begin, then piece again and again, then end: size bytes. */
static char *fill(size_t size, const char *begin, const char *piece, const char *end)
{
    char *text = malloc(size + 1);
    size_t used = strlen(begin), last = strlen(end), length = strlen(piece);
    assert_non_null(text);
    memcpy(text, begin, used);
    for (; used + length + last + 1 < size; used += length)
        memcpy(text + used, piece, length);
    text[used - 1] = ' '; /* in the place of the last comma */
    memset(text + used, ' ', size - used);
    memcpy(text + used, end, last);
    text[size] = 0;
    return text;
}

static const char *with_header(const char *dir, const char *header)
{
    size_t length = strlen(header);
    char *bytes = malloc(length + 8);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    const char *path = scratch_write(dir, "file", bytes, length + 8);
    free(bytes);
    return path;
}

static const struct {
    const char *begin, *piece, *end, *said;
} bombs[] = {
    {"{\"a\":[", "{},", "]}", "values"},
    {"{\"a\":[", "[],", "]}", "values"},
    {"{\"a\":[", "0,", "]}", "values"},
    {"{\"a\":[", "\"\",", "]}", "values"},
    {"{\"__metadata__\":{", "\"\":\"\",", "}}", "values"},
    {"{\"a\":", "[[[", "", "deeply"},
    {"{\"a\":", "{\"a\":", "", "deeply"},
    {"{\"__metadata__\":{\"a\":\"", "\\u00e9\\n", "\"}}", ""}, /* one long string is none; the file lacks the rest */
    {"", "\\", "", "no JSON object"},
};

static void a_header_cannot_make_the_parser_swell(void **state)
{
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        char *header = fill(MEBIBYTE, bombs[i].begin, bombs[i].piece, bombs[i].end);
        if (strstr(bombs[i].piece, "\\u00e9"))
            header[strlen(bombs[i].begin) - 1] = '"';
        const char *path = with_header(*state, header);
        assert_frugal(read_checkpoint, path, MEBIBYTE + 8, bombs[i].said);
        assert_frugal(read_weights, path, MEBIBYTE + 8, bombs[i].said);
        free(header);
    }
}

/* As many values as are allowed, which cost the most. */
static void the_fullest_header_stays_within_the_limit(void **state)
{
    static const char *const pieces[] = {"{},", "[],", "\"\","};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t counts = i < 2 ? 2 : 1;
        char *header = fill(6 + strlen(pieces[i]) * (12 * 4096 - 10) / counts, "{\"a\":[", pieces[i], "]}");
        assert_frugal(read_checkpoint, with_header(*state, header), strlen(header) + 8, "exactly dtype");
        free(header);
    }
    /* Names, which live in a table with the values. */
    char *header = malloc(MEBIBYTE), *at = header;
    at += sprintf(at, "{\"__metadata__\":{");
    for (int i = 0; i < 40000; i++)
        at += sprintf(at, "%s\"k%d\":\"v\"", i ? "," : "", i);
    strcpy(at, "}}");
    assert_frugal(read_checkpoint, with_header(*state, header), strlen(header) + 8, "no checkpoint of crnn-gpu");
    free(header);
}

/* --- checkpoints ------------------------------------------------------------------------------------------------------------ */

/* A sound checkpoint of about 24 MB; returns its bytes. */
static char *large_checkpoint(const char *dir, size_t *size, const char *options)
{
    const crnn_model_sizes sizes = {1000, 500, 500, 1, 0};
    crnn_error err = {0};
    crnn_checkpoint *c = crnn_checkpoint_new(&sizes, 4, true, &err);
    assert_non_null(c);
    for (uint32_t v = 0; v < 1000; v++)
        c->vocab[v] = v + 32;
    c->options = strdup(options);
    assert_int_equal(crnn_checkpoint_write(c, dir, "whole", NULL, NULL, &err), CRNN_OK);
    crnn_checkpoint_free(c);
    FILE *file = fopen(scratch_path(dir, "whole"), "rb");
    struct stat info;
    assert_true(file && fstat(fileno(file), &info) == 0);
    *size = (size_t)info.st_size;
    char *bytes = malloc(*size);
    assert_true(bytes && fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

static const char *sealed(const char *dir, char *bytes, size_t size)
{
    crnn_sha256 *hash = crnn_sha256_new();
    assert_true(hash && crnn_sha256_add(hash, bytes, size - 32) && crnn_sha256_end(hash, (uint8_t *)bytes + size - 32));
    crnn_sha256_free(hash);
    return scratch_write(dir, "file", bytes, size);
}

static void a_large_file_is_refused_in_its_own_size(void **state)
{
    size_t size;
    char *bytes = large_checkpoint(*state, &size, "{}");
    const float not_finite = (float)NAN;
    assert_true(size > 20 * MEBIBYTE);
    bytes[size / 2] ^= 1;
    assert_frugal(read_checkpoint, scratch_write(*state, "file", bytes, size), size, "SHA-256");
    memcpy(bytes + size - 32 - 4000 - 4 * 4 * 500, &not_finite,
           4); /* in the state, which is read last but for the vocabulary */
    assert_frugal(read_checkpoint, sealed(*state, bytes, size), size, "not finite");
    memset(bytes + size - 32 - 4000 - 4 * 4 * 500, 0, 4);
    memset(bytes + size - 36, 0xFF, 4);
    assert_frugal(read_checkpoint, sealed(*state, bytes, size), size, "bad vocabulary");
    free(bytes);
}

static void sizes_that_the_file_does_not_hold_cost_nothing(void **state)
{
    size_t size;
    char *bytes = large_checkpoint(*state, &size, "{}"), *at;
    static const char *const claims[][2] = {{"\"V\":\"1000\"", "\"V\":\"9999\""},
                                            {"\"E\":\"500\"", "\"E\":\"999\""},
                                            {"\"L\":\"1\"", "\"L\":\"9\""},
                                            {"\"B\":\"4\"", "\"B\":\"0\""}};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        at = memmem(bytes, 4096, claims[i][0], strlen(claims[i][0]));
        assert_non_null(at);
        memcpy(at, claims[i][1], strlen(claims[i][1]));
        /* 64 KiB are enough to say so: nothing may be allocated for what is claimed. */
        assert_frugal(read_checkpoint, sealed(*state, bytes, size), 65536, "tensor");
        memcpy(at, claims[i][0], strlen(claims[i][0]));
    }
    free(bytes);
}

static void stored_options_cannot_swell_either(void **state)
{
    char *options = fill(1 << 18, "{\"a\":[", "[],", "]}");
    size_t size;
    char *bytes = large_checkpoint(*state, &size, options);
    assert_frugal(read_checkpoint, scratch_path(*state, "whole"), MEBIBYTE, "the run's options in it");
    free(options);
    free(bytes);
}

/* --- the other files of a run ------------------------------------------------------------------------------------------------- */

static void config_and_history_cannot_swell(void **state)
{
    size_t size;
    char *dir = *state;
    mkdir(scratch_path(dir, "run"), 0700);
    mkdir(scratch_path(dir, "run/checkpoints"), 0700);
    free(large_checkpoint(dir, &size, "{}"));
    assert_int_equal(
        rename(scratch_path(dir, "whole"), scratch_path(dir, "run/checkpoints/ckpt-0000000000.safetensors")), 0);
    for (size_t i = 0; i < 7; i++) {
        char *text = fill(MEBIBYTE - 1, bombs[i].begin, bombs[i].piece, bombs[i].end);
        scratch_text(dir, "run/config.json", text);
        assert_frugal(verify_run, scratch_path(dir, "run"), size, bombs[i].said);
        free(text);
    }
    char *text = fill(32 * MEBIBYTE, "", "{},", "");
    scratch_text(dir, "run/config.json", text);
    assert_frugal(verify_run, scratch_path(dir, "run"), size, "at most 1048576 are expected");
    free(text);
}

static int begin(void **state)
{
    *state = scratch_new();
    return 0;
}

static int end(void **state)
{
    scratch_remove(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_cannot_make_the_parser_swell),
        cmocka_unit_test(the_fullest_header_stays_within_the_limit),
        cmocka_unit_test(a_large_file_is_refused_in_its_own_size),
        cmocka_unit_test(sizes_that_the_file_does_not_hold_cost_nothing),
        cmocka_unit_test(stored_options_cannot_swell_either),
        cmocka_unit_test(config_and_history_cannot_swell),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
