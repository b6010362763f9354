/* Safetensors files: what is written comes back, what other programs write is read, and nothing that breaks a limit is opened. */
#include "support/cmocka.h"

#include "host/tensors/safetensors.h"
#include "support/scratch.h"
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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
    scratch_remove(dir);
    return 0;
}

/* A file of a header's text and so many data bytes, which count up. */
static const char *file_of(const char *header, size_t header_size, size_t data)
{
    unsigned char *bytes = malloc(8 + header_size + data);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)header_size >> (8 * i));
    memcpy(bytes + 8, header, header_size);
    for (size_t i = 0; i < data; i++)
        bytes[8 + header_size + i] = (unsigned char)i;
    const char *path = scratch_write(dir, "file", bytes, 8 + header_size + data);
    free(bytes);
    return path;
}

static void assert_opens(const char *header, size_t data)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_st_file *file = crnn_st_open(file_of(header, strlen(header), data), &err);
    if (!file)
        fail_msg("%s was refused: %s", header, err.text);
    crnn_st_close(file);
}

static void assert_bad(const char *path, const char *shown, const char *why)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_st_file *file = crnn_st_open(path, &err);
    crnn_st_close(file);
    assert_null(crnn_st_open(path, NULL)); /* who asks for no sentence gets none */
    if (file)
        fail_msg("accepted: %.200s", shown);
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    if (!strstr(err.text, why))
        fail_msg("of %.200s it said '%s', not '%s'", shown, err.text, why);
}

static void what_is_written_is_read_in_order_and_to_the_bit(void **state)
{
    (void)state;
    static const float reals[6] = {0, -0.0F, 1e-45F, 3.5F, -1e38F, 0.1F};
    static const int32_t codes[3] = {10, 0x1F600, -1};
    static const uint8_t bytes[2] = {7, 255};
    const crnn_st_out out[] = {{"z/last name first", CRNN_ST_F32, 2, {2, 3}, reals},
                               {"codes", CRNN_ST_I32, 1, {3}, codes},
                               {"a", CRNN_ST_U8, 3, {1, 1, 2}, bytes}};
    const crnn_st_meta meta[] = {{"quoted", "a \"b\" \\ \n ñ"}, {"empty", ""}};
    crnn_error err = {CRNN_OK, ""};
    uint8_t digest[32], computed[32], stored[32], back[32];
    const char *path = scratch_path(dir, "written");
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(crnn_st_write(fd, path, out, 3, meta, 2, digest, &err), CRNN_OK);
    close(fd);

    crnn_st_file *file = crnn_st_open(path, &err);
    if (!file)
        fail_msg("%s", err.text);
    assert_int_equal(crnn_st_count(file), 4);
    for (int k = 0; k < 3; k++) {
        const crnn_st_tensor *tensor = crnn_st_at(file, k);
        assert_string_equal(tensor->name, out[k].name);
        assert_int_equal(tensor->rank, out[k].rank);
        assert_memory_equal(tensor->shape, out[k].shape, (size_t)out[k].rank * sizeof *tensor->shape);
        assert_int_equal(crnn_st_read(file, tensor, back, &err), CRNN_OK);
        assert_memory_equal(back, out[k].data, (size_t)tensor->bytes);
    }
    assert_int_equal(crnn_st_at(file, 0)->begin % 8, 0);
    assert_string_equal(crnn_st_at(file, 3)->name, "sha256");
    assert_string_equal(crnn_st_metadata(file, "quoted"), meta[0].value);
    assert_string_equal(crnn_st_metadata(file, "empty"), "");
    assert_null(crnn_st_metadata(file, "none"));
    assert_null(crnn_st_find(file, "none"));
    assert_int_equal(crnn_st_digest(file, computed, stored, &err), CRNN_OK);
    assert_memory_equal(computed, digest, sizeof digest);
    assert_memory_equal(stored, digest, sizeof digest);
    crnn_st_close(file);
}

/* Values whose bits were worked out by hand: the least and the largest of each half-precision format, and what is no number. */
static void reals_of_every_width_are_read(void **state)
{
    (void)state;
    static const uint16_t half[6] = {0x0001, 0x8400, 0x3555, 0x7BFF, 0xFC00, 0x7E00};
    static const double of_half[5] = {0x1p-24, -0x1p-14, 0x1.554p-2, 65504, -INFINITY};
    static const uint16_t brain[4] = {0x0001, 0x3F80, 0xC049, 0x7F80};
    static const double of_brain[4] = {0x1p-133, 1, -3.140625, INFINITY};
    static const double wide[2] = {1.0 / 3, -1e300};
    const crnn_st_out out[] = {{"half", CRNN_ST_F16, 1, {6}, half},
                               {"brain", CRNN_ST_BF16, 1, {4}, brain},
                               {"wide", CRNN_ST_F64, 1, {2}, wide}};
    crnn_error err = {CRNN_OK, ""};
    double values[6];
    float floats[6];
    const char *path = scratch_path(dir, "reals");
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(crnn_st_write(fd, path, out, 3, NULL, 0, NULL, &err), CRNN_OK);
    close(fd);
    crnn_st_file *file = crnn_st_open(path, &err);
    assert_non_null(file);
    assert_int_equal(crnn_st_read_doubles(file, crnn_st_find(file, "half"), values, &err), CRNN_OK);
    assert_memory_equal(values, of_half, sizeof of_half);
    assert_true(isnan(values[5]));
    assert_int_equal(crnn_st_read_doubles(file, crnn_st_find(file, "brain"), values, &err), CRNN_OK);
    assert_memory_equal(values, of_brain, sizeof of_brain);
    assert_int_equal(crnn_st_read_floats(file, crnn_st_find(file, "wide"), floats, &err), CRNN_OK);
    assert_true(floats[0] == 1.0F / 3 && isinf(floats[1]));
    assert_int_equal(crnn_st_read_floats(file, crnn_st_find(file, "sha256"), floats, &err), CRNN_ERR_FORMAT);
    crnn_st_close(file);
}

static void what_other_programs_write_is_opened(void **state)
{
    (void)state;
    assert_opens("{}", 0);
    assert_opens("  {}   ", 0);
    assert_opens("{\"__metadata__\":{}}", 0);
    assert_opens("{\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4); /* a number */
    assert_opens("{\"none\":{\"shape\":[0,7],\"data_offsets\":[0,0],\"dtype\":\"F64\"}}", 0);
    assert_opens("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
                 "\"b\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                 0);
    /* named in another order than they lie, with one of no elements between */
    assert_opens("{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]},"
                 "\"n\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[3,3]},"
                 "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
                 5);
}

/* Headers that break one rule each. A tensor T stands for the three members of a good one of 4 bytes. */
static void a_header_that_breaks_a_rule_is_refused(void **state)
{
    (void)state;
#define ONE(members) "{\"t\":{" members "}}"
#define T "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"
    static const struct {
        const char *header, *why;
    } cases[] = {
        {"[]", "no JSON object"},
        {"{ ", "no JSON object"},
        {"{} x", "no JSON object"},
        {"{\"t\":1}", "exactly dtype, shape and data_offsets"},
        {"{\"\xff\":{" T "}}", "no JSON object"},
        {"{\"t\":{" T "},\"t\":{" T "}}", "no JSON object"},
        {ONE("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), "no JSON object"},
        {ONE(T ",\"more\":[[[1]]]"), "nested too deeply"},
        {ONE(T ",\"more\":1"), "exactly dtype, shape and data_offsets"},
        {ONE("\"a\":1,\"b\":2,\"c\":3"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"offsets\":[0,4]"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":\"0,4\""), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2,4]"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"size\":[1],\"data_offsets\":[0,4]"), "no shape of at most 4"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\"0\",4]"), "impossible offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]"), "impossible offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0.0,4]"), "impossible offsets"},
        {ONE("\"dtype\":\"I64\",\"shape\":[1152921504606846975],\"data_offsets\":[0,9223372036854775800]"),
         "goes beyond the end"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1]"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]"), "not supported"},
        {ONE("\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]"), "no shape of at most 4"},
        {ONE("\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]"), "no shape of at most 4"},
        {ONE("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), "impossible shape"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]"), "impossible shape"},
        {ONE("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]"), "impossible shape"},
        {ONE("\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]"), "impossible shape"},
        {ONE("\"dtype\":\"F32\",\"shape\":[18446744073709551617],\"data_offsets\":[0,4]"), "no JSON object"},
        {ONE("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), "do not agree"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), "impossible offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]"), "impossible offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]"), "exactly dtype, shape and data_offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775803,9223372036854775807]"),
         "impossible offsets"},
        {ONE("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]"), "does not begin where"},
        {ONE("\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]"), "cut short or damaged"},
        {ONE("\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]"), "cut short or damaged"},
        {"{\"a\":{" T "},\"b\":{" T "}}", "does not begin where"},
        {"{\"__metadata__\":[],\"t\":{" T "}}", "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"step\":3},\"t\":{" T "}}", "not a string"},
    };
#undef ONE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_bad(file_of(cases[i].header, strlen(cases[i].header), 4), cases[i].header, cases[i].why);
    assert_opens("{\"t\":{" T "}}", 4); /* the good one that all of them are made from */
#undef T
}

static void a_name_has_at_most_95_bytes(void **state)
{
    (void)state;
    for (int length = 95; length <= 96; length++) {
        char header[256];
        snprintf(header, sizeof header, "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", length,
                 7);
        if (length == 95)
            assert_opens(header, 1);
        else
            assert_bad(file_of(header, strlen(header), 1), header, "name is longer than 95");
    }
}

static void a_table_has_at_most_4096_tensors(void **state)
{
    (void)state;
    char *header = malloc(1 << 20);
    assert_non_null(header);
    for (int wanted = 4096; wanted <= 4097; wanted++) {
        int at = 0;
        for (int i = 0; i < wanted; i++)
            at += sprintf(header + at, "%c\"%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                          i ? ',' : '{', i, i, i + 1);
        strcpy(header + at, "}");
        if (wanted == 4096)
            assert_opens(header, 4096);
        else
            assert_bad(file_of(header, strlen(header), 4097), "4097 tensors", "more than 4096 tensors");
    }
    free(header);
}

/* The length in front of the header is the first number read, and the only one that asks for memory. */
static void the_headers_length_is_held_against_the_file_and_a_mebibyte(void **state)
{
    (void)state;
    enum { MEBIBYTE = 1 << 20 };
    char *spaces = malloc(MEBIBYTE + 1);
    assert_non_null(spaces);
    memset(spaces, ' ', MEBIBYTE + 1);
    memcpy(spaces, "{}", 2);
    crnn_st_file *file = crnn_st_open(file_of(spaces, MEBIBYTE, 0), NULL);
    assert_non_null(file);
    crnn_st_close(file);
    assert_bad(file_of(spaces, MEBIBYTE + 1, 0), "a mebibyte and one", "its header would have 1048577 bytes");
    free(spaces);

    static const uint64_t lengths[] = {0, 1, 3, 1 << 20, UINT32_MAX, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(lengths[i] >> (8 * k));
        assert_bad(scratch_write(dir, "file", bytes, sizeof bytes), "a wrong length", "no safetensors file");
    }
    for (size_t size = 0; size < 10; size++)
        assert_bad(scratch_write(dir, "file", "\2\0\0\0\0\0\0\0{}", size), "a short file", "too few");
}

/* A sparse file of a tebibyte whose one tensor fills it: the table alone is read. */
static void a_tensor_of_any_size_costs_nothing_to_open(void **state)
{
    (void)state;
    static const char header[] =
        "{\"t\":{\"dtype\":\"U8\",\"shape\":[1099511627776],\"data_offsets\":[0,1099511627776]}}";
    const char *path = file_of(header, strlen(header), 0);
    struct rusage before, after;
    if (truncate(path, (off_t)(8 + strlen(header)) + 1099511627776) != 0)
        skip(); /* a file system without such files */
    getrusage(RUSAGE_SELF, &before);
    crnn_st_file *file = crnn_st_open(path, NULL);
    getrusage(RUSAGE_SELF, &after);
    assert_non_null(file);
    assert_true(crnn_st_at(file, 0)->bytes == 1099511627776);
    assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024); /* KiB; the promise is 16 MiB */
    crnn_st_close(file);
}

static void what_is_no_regular_file_is_refused_at_once(void **state)
{
    (void)state;
    const char *pipe_path = scratch_path(dir, "pipe");
    const char *const none[] = {pipe_path, dir, "/dev/zero", scratch_path(dir, "missing")};
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        crnn_error err = {CRNN_OK, ""};
        assert_null(crnn_st_open(none[i], &err));
        assert_int_equal(err.status, CRNN_ERR_IO);
        assert_non_null(strstr(err.text, none[i]));
    }
}

static void a_file_cut_after_it_was_opened_is_an_error(void **state)
{
    (void)state;
    static const char header[] = "{\"t\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    const char *path = file_of(header, strlen(header), 16);
    float values[4];
    uint8_t computed[32], stored[32];
    crnn_error err = {CRNN_OK, ""};
    crnn_st_file *file = crnn_st_open(path, &err);
    assert_non_null(file);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_not_equal(crnn_st_read(file, crnn_st_at(file, 0), values, &err), CRNN_OK);
    assert_int_not_equal(crnn_st_read_floats(file, crnn_st_at(file, 0), values, &err), CRNN_OK);
    assert_int_not_equal(crnn_st_digest(file, computed, stored, &err), CRNN_OK);
    crnn_st_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read_in_order_and_to_the_bit, begin, end),
        cmocka_unit_test_setup_teardown(reals_of_every_width_are_read, begin, end),
        cmocka_unit_test_setup_teardown(what_other_programs_write_is_opened, begin, end),
        cmocka_unit_test_setup_teardown(a_header_that_breaks_a_rule_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(a_name_has_at_most_95_bytes, begin, end),
        cmocka_unit_test_setup_teardown(a_table_has_at_most_4096_tensors, begin, end),
        cmocka_unit_test_setup_teardown(the_headers_length_is_held_against_the_file_and_a_mebibyte, begin, end),
        cmocka_unit_test_setup_teardown(a_tensor_of_any_size_costs_nothing_to_open, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_refused_at_once, begin, end),
        cmocka_unit_test_setup_teardown(a_file_cut_after_it_was_opened_is_an_error, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
