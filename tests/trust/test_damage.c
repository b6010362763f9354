/* Corruption is seen: no damaged checkpoint is ever accepted. (tests/model/test_checkpoint.c flips every bit of a small one.) */
#include "host/base/files.h"
#include "support/scratch.h"
#include "trust/trust.h"
#include <crnn/crnn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* A checkpoint of a training run, with values as a run has them: none of its blocks is zero by nature. */
static const char *write_full(const crnn_model_sizes *sizes)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_checkpoint *c = crnn_checkpoint_new(sizes, 64, true, &err);
    assert_non_null(c);
    int64_t n = crnn_model_parameters(sizes), m = (int64_t)sizes->L * 64 * sizes->H;
    for (int32_t v = 0; v < sizes->V; v++)
        c->vocab[v] = (uint32_t)(' ' + v);
    for (int64_t i = 0; i < n; i++) {
        c->weights[i] = (float)(int64_t)(trust_random(2000001) - 1000000) * 1e-7F;
        c->m[i] = c->weights[i] * 0.01F;
        c->v[i] = c->weights[i] * c->weights[i];
    }
    for (int64_t i = 0; i < m; i++)
        c->state[i] = (float)(int64_t)(trust_random(2000001) - 1000000) * 1e-6F;
    if (crnn_checkpoint_write(c, dir, "full.safetensors", NULL, NULL, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    crnn_checkpoint_free(c);
    return scratch_path(dir, "full.safetensors");
}

static bool is_accepted(const char *path)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_checkpoint *c = crnn_checkpoint_read(path, &err);
    bool accepted = c != NULL || err.status != CRNN_ERR_FORMAT || !err.text[0];
    crnn_checkpoint_free(c);
    return accepted;
}

/* Changes size bytes at `at` to `bad`, reads, and puts back what was there. */
static bool damage_is_seen(int fd, const char *path, const char *good, size_t at, const char *bad, size_t size)
{
    assert_int_equal(pwrite(fd, bad, size, (off_t)at), size);
    bool seen = !is_accepted(path);
    assert_int_equal(pwrite(fd, good + at, size, (off_t)at), size);
    return seen;
}

/* Half of them in the header, which is a small part of the file, and the rest all over it. */
static size_t random_place(const char *good, size_t size)
{
    size_t header = 8 + (size_t)((const unsigned char *)good)[0] + 256 * (size_t)((const unsigned char *)good)[1];
    return trust_random(trust_random(4) == 0 && header < size ? header : size);
}

static void damage_to_a_full_checkpoint_is_seen(void **state)
{
    (void)state;
    static const char zeros[4096];
    crnn_model_sizes sizes =
        trust_long() ? (crnn_model_sizes){83, 256, 1024, 1, 0} : (crnn_model_sizes){83, 32, 64, 1, 0};
    tally flips = {.promise = "Corruption is seen: random flips of a full checkpoint"};
    tally blocks = {.promise = "Corruption is seen: zeroed blocks of a full checkpoint"};
    tally cuts = {.promise = "Corruption is seen: truncations of a full checkpoint"};
    size_t size;
    char path[300];
    snprintf(path, sizeof path, "%s", write_full(&sizes));
    char *good = crnn_read_file(path, 1 << 30, &size, NULL);
    int fd = open(path, O_WRONLY);
    assert_true(good && fd >= 0 && is_accepted(path));
    for (long i = 0; i < trust_pick(500, 5000); i++) {
        size_t at = random_place(good, size), length = trust_random(2) ? 512 : 4096, from = at / length * length;
        char flipped = (char)(good[at] ^ (1 << trust_random(8)));
        tally_trial(&flips, damage_is_seen(fd, path, good, at, &flipped, 1), "a bit of byte %zu of %zu", at, size);
        length = from + length > size ? size - from : length;
        if (memcmp(good + from, zeros, length) != 0)
            tally_trial(&blocks, damage_is_seen(fd, path, good, from, zeros, length),
                        "%zu bytes from %zu of %zu zeroed", length, from, size);
    }
    assert_true(is_accepted(path)); /* whole again */
    for (size_t at = size; at > 0 && cuts.trials < trust_pick(200, 1000);) {
        at -= at < 100 ? 1 : 1 + trust_random(at / 50 + 1);
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
        tally_trial(&cuts, !is_accepted(path), "cut to %zu of %zu bytes", at, size);
    }
    close(fd);
    free(good);
    tally_end(&flips);
    tally_end(&blocks);
    tally_end(&cuts);
}

/* Every bit and every length of one that the program itself wrote. */
static void every_bit_of_a_small_one_counts(void **state)
{
    (void)state;
    trust_whole whole;
    tally bits = {.promise = "Corruption is seen: every bit of a small checkpoint"};
    tally lengths = {.promise = "Corruption is seen: every truncation of a small checkpoint"};
    size_t size;
    trust_make_whole(&whole, dir, 3);
    const char *path = scratch_path(dir, "whole/run/checkpoints/ckpt-0000000003.safetensors");
    char *good = crnn_read_file(path, 1 << 30, &size, NULL), name[300];
    snprintf(name, sizeof name, "%s", path);
    int fd = open(name, O_WRONLY);
    assert_true(good && fd >= 0 && is_accepted(name));
    for (size_t bit = 0; bit < size * 8; bit += (size_t)trust_pick(61, 1)) {
        char flipped = (char)(good[bit / 8] ^ (1 << bit % 8));
        tally_trial(&bits, damage_is_seen(fd, name, good, bit / 8, &flipped, 1), "bit %zu of byte %zu", bit % 8,
                    bit / 8);
    }
    for (size_t at = size; at-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
        if (at % (size_t)trust_pick(17, 1) == 0)
            tally_trial(&lengths, !is_accepted(name), "cut to %zu of %zu bytes", at, size);
    }
    close(fd);
    free(good);
    tally_end(&bits);
    tally_end(&lengths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_to_a_full_checkpoint_is_seen),
        cmocka_unit_test(every_bit_of_a_small_one_counts),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
