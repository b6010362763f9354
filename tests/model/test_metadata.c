/* Each number of a checkpoint's metadata, and each tensor, that is not what it must be is refused by name, behind a valid digest. */
#include "support/cmocka.h"

#include "host/tensors/safetensors.h"
#include "support/scratch.h"
#include <crnn/checkpoint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const keys[] = {"format",
                                   "version",
                                   "producer",
                                   "V",
                                   "E",
                                   "H",
                                   "L",
                                   "dropout",
                                   "B",
                                   "step",
                                   "adam_count",
                                   "epoch",
                                   "position",
                                   "seed",
                                   "rate_factor",
                                   "returns",
                                   "best_val_loss",
                                   "best_step",
                                   "loss_last",
                                   "epoch_loss_sum",
                                   "epoch_positions",
                                   "epoch_hits",
                                   "corpus_characters",
                                   "corpus_sha256",
                                   "options"};
enum { KEYS = sizeof keys / sizeof *keys, MAX_TENSORS = 64 };

static const char *path; /* of a sound checkpoint */
static char *dir;

static int begin(void **state)
{
    const crnn_model_sizes sizes = {3, 2, 2, 2, 0.25F};
    crnn_checkpoint *c = crnn_checkpoint_new(&sizes, 2, true, NULL);
    (void)state;
    dir = scratch_new();
    for (uint32_t v = 0; c && v < 3; v++)
        c->vocab[v] = 'a' + v;
    int status = c ? (int)crnn_checkpoint_write(c, dir, "sound", NULL, NULL, NULL) : 1;
    crnn_checkpoint_free(c);
    return status;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

typedef struct {
    const char *key, *value;      /* metadata to change; value NULL: to leave out */
    const char *tensor, *renamed; /* tensor to rename; NULL: to leave out */
    bool wrong_type, one_more;    /* the tensor's type; a tensor that does not belong */
    const void *data;             /* what the tensor holds */
} change;

/* A key of the metadata set to a value. */
#define SET(k, v)                                                                                                      \
    (change)                                                                                                           \
    {                                                                                                                  \
        .key = (k), .value = (v)                                                                                       \
    }
typedef struct {
    const char *key, *value;
} setting;

/* Writes the sound checkpoint with a change, digest and all. */
static const char *changed(change how)
{
    crnn_st_out out[MAX_TENSORS];
    crnn_st_meta meta[KEYS];
    char names[MAX_TENSORS][96];
    int count = 0, metas = 0;
    path = scratch_path(dir, "changed");
    crnn_st_file *file = crnn_st_open(scratch_path(dir, "sound"), NULL);
    assert_non_null(file);
    for (int i = 0; i < KEYS; i++) {
        bool it = how.key && strcmp(how.key, keys[i]) == 0;
        if (!it || how.value)
            meta[metas++] = (crnn_st_meta){keys[i], it ? how.value : crnn_st_metadata(file, keys[i])};
    }
    for (int i = 0; i + 1 < crnn_st_count(file); i++) { /* the last is the digest */
        const crnn_st_tensor *t = crnn_st_at(file, i);
        bool it = how.tensor && strcmp(how.tensor, t->name) == 0;
        if (it && !how.renamed)
            continue;
        void *data = malloc((size_t)t->bytes);
        assert_int_equal(crnn_st_read(file, t, data, NULL), CRNN_OK);
        if (it && how.data)
            memcpy(data, how.data, (size_t)t->bytes);
        snprintf(names[count], sizeof names[count], "%s", it ? how.renamed : t->name);
        out[count] = (crnn_st_out){names[count], it && how.wrong_type ? CRNN_ST_I32 : t->type, t->rank, {0}, data};
        memcpy(out[count].shape, t->shape, sizeof t->shape);
        count++;
    }
    if (how.one_more)
        out[count++] = (crnn_st_out){"more", CRNN_ST_F32, 1, {1}, calloc(1, 4)};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(crnn_st_write(fd, path, out, count, meta, metas, NULL, NULL), CRNN_OK);
    close(fd);
    crnn_st_close(file);
    while (count > 0)
        free((void *)(uintptr_t)out[--count].data);
    return path;
}

static void assert_refused(change how, const char *said)
{
    crnn_error err = {0};
    crnn_checkpoint *c = crnn_checkpoint_read(changed(how), &err);
    if (c || err.status != CRNN_ERR_FORMAT || !strstr(err.text, said))
        fail_msg("%s = %s: '%s' is missing in: %s", how.key ? how.key : how.tensor, how.value ? how.value : "nothing",
                 said, err.text);
    assert_null(crnn_checkpoint_read(path, NULL));
}

static void assert_taken(change how)
{
    crnn_error err = {0};
    crnn_checkpoint *c = crnn_checkpoint_read(changed(how), &err);
    if (!c)
        fail_msg("%s = %s: %s", how.key ? how.key : "nothing", how.value ? how.value : "nothing", err.text);
    crnn_checkpoint_free(c);
}

static void every_key_must_be_there(void **state)
{
    (void)state;
    assert_taken((change){0});
    assert_taken((change){.key = "producer"}); /* nothing depends on it */
    for (int i = 0; i < KEYS; i++)
        if (strcmp(keys[i], "producer") != 0)
            assert_refused((change){.key = keys[i]}, i < 3 ? "no checkpoint of crnn-gpu" : keys[i]);
}

static void numbers_are_read_strictly(void **state)
{
    (void)state;
    static const char *const whole[] = {
        "step",       "adam_count", "epoch", "position", "returns", "best_step", "corpus_characters", "epoch_positions",
        "epoch_hits", "V",          "E",     "H",        "L",       "B"};
    static const char *const real[] = {"dropout", "rate_factor", "best_val_loss", "loss_last", "epoch_loss_sum"};
    static const char *const not_whole[] = {"", "x", "1x", "1.5", "9223372036854775808", "nan"};
    static const char *const not_real[] = {"", "x", "0.5x", "nan"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        for (size_t k = 0; k < sizeof not_whole / sizeof *not_whole; k++)
            assert_refused((change){.key = whole[i], .value = not_whole[k]}, whole[i]);
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        for (size_t k = 0; k < sizeof not_real / sizeof *not_real; k++)
            assert_refused((change){.key = real[i], .value = not_real[k]}, real[i]);
    static const char *const not_natural[] = {"", "x", "1x", "-1", "18446744073709551616"};
    for (size_t k = 0; k < sizeof not_natural / sizeof *not_natural; k++)
        assert_refused((change){.key = "seed", .value = not_natural[k]}, "seed");
    assert_taken((change){.key = "seed", .value = "18446744073709551615"});
    assert_refused((change){.key = "V", .value = "4294967297"}, "usable V"); /* not 1 */
}

static void numbers_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const setting sizes[] = {{"V", "0"},        {"V", "65536"},    {"V", "-3"},       {"E", "0"},
                                    {"E", "16777217"}, {"H", "0"},        {"H", "16777217"}, {"L", "0"},
                                    {"L", "65"},       {"B", "-1"},       {"B", "16777217"}, {"dropout", "-0.1"},
                                    {"dropout", "1"},  {"dropout", "inf"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_refused(SET(sizes[i].key, sizes[i].value), "impossible sizes");
    static const setting numbers[] = {{"step", "-1"},
                                      {"adam_count", "-1"},
                                      {"adam_count", "1"},
                                      {"epoch", "-1"},
                                      {"position", "-1"},
                                      {"returns", "-1"},
                                      {"rate_factor", "0"},
                                      {"rate_factor", "1.5"},
                                      {"best_step", "-2"},
                                      {"epoch_positions", "-1"},
                                      {"epoch_hits", "-1"},
                                      {"epoch_loss_sum", "inf"},
                                      {"corpus_characters", "-1"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_refused(SET(numbers[i].key, numbers[i].value), "a number that cannot be");
    assert_refused(SET("corpus_sha256", "00"), "corpus_sha256");
    assert_refused(SET("corpus_sha256", "000000000000000000000000000000000000000000000000000000000000000G"),
                   "corpus_sha256");
    static const char *const options[] = {"", "[]", "{", "{\"a\":{\"b\":[]}}", "{} {}", "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        assert_refused(SET("options", options[i]), "the run's options in it");
    assert_refused(SET("version", "2.0"), "format 2.0; this program reads format 1.0");
    assert_refused(SET("format", "other"), "no checkpoint of crnn-gpu");
    assert_taken(SET("version", "1.7"));
    assert_taken(SET("options", "{\"a\":[1,2]}"));
}

static void sizes_that_the_tensors_do_not_have_are_refused(void **state)
{
    (void)state;
    static const setting others[] = {{"V", "4"}, {"E", "3"}, {"H", "3"}, {"L", "1"},
                                     {"L", "3"}, {"B", "3"}, {"B", "0"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_refused(SET(others[i].key, others[i].value), "tensor");
}

static void the_tensors_must_be_exactly_those_that_the_sizes_imply(void **state)
{
    (void)state;
    crnn_st_file *file = crnn_st_open(scratch_path(dir, "sound"), NULL);
    assert_non_null(file);
    for (int i = 0; i + 1 < crnn_st_count(file); i++) {
        char name[96];
        snprintf(name, sizeof name, "%s", crnn_st_at(file, i)->name);
        assert_refused((change){.tensor = name}, name);
        assert_refused((change){.tensor = name, .renamed = "other"}, name);
        if (strcmp(name, "vocab") != 0)
            assert_refused((change){.tensor = name, .renamed = name, .wrong_type = true}, name);
    }
    crnn_st_close(file);
    assert_refused((change){.one_more = true}, "tensors that a checkpoint does not have");
}

static void values_that_are_not_finite_or_no_vocabulary_are_refused(void **state)
{
    (void)state;
    const uint32_t vocab[3] = {'b', 'a', 'c'}, inf[64] = {0, 0x7F800000};
    assert_refused((change){.tensor = "vocab", .renamed = "vocab", .data = vocab}, "bad vocabulary");
    assert_refused((change){.tensor = "gru/kernel", .renamed = "gru/kernel", .data = inf}, "a weight is not finite");
    assert_refused((change){.tensor = "adam.m/gru/bias", .renamed = "adam.m/gru/bias", .data = inf},
                   "a moment of Adam");
    assert_refused((change){.tensor = "adam.v/gru/bias", .renamed = "adam.v/gru/bias", .data = inf},
                   "a moment of Adam");
    assert_refused((change){.tensor = "state", .renamed = "state", .data = inf}, "the hidden state");
    const crnn_model_sizes sizes = {3, 2, 2, 2, 0};
    float weights[256];
    crnn_error err = {0};
    changed((change){.tensor = "gru/kernel", .renamed = "gru/kernel", .data = inf});
    assert_int_equal(crnn_weights_read(path, &sizes, weights, &err), CRNN_ERR_FORMAT);
    assert_non_null(strstr(err.text, "a weight is not finite"));
    changed((change){.tensor = "dense/bias", .renamed = "dense/bias", .wrong_type = true});
    assert_int_equal(crnn_weights_read(path, &sizes, weights, &err), CRNN_ERR_FORMAT);
    changed((change){.tensor = "dense/bias"});
    assert_int_equal(crnn_weights_read(path, &sizes, weights, &err), CRNN_ERR_FORMAT);
    assert_non_null(strstr(err.text, "dense/bias of shape [3]"));
    assert_int_equal(crnn_weights_read(path, &sizes, weights, NULL), CRNN_ERR_FORMAT);
    assert_int_equal(crnn_weights_read(scratch_path(dir, "absent"), &sizes, weights, NULL), CRNN_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_must_be_there),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(numbers_that_cannot_be_are_refused),
        cmocka_unit_test(sizes_that_the_tensors_do_not_have_are_refused),
        cmocka_unit_test(the_tensors_must_be_exactly_those_that_the_sizes_imply),
        cmocka_unit_test(values_that_are_not_finite_or_no_vocabulary_are_refused),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
