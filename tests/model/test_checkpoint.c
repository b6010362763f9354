/* Checkpoints: what is written comes back to the bit, and nothing damaged or hostile is accepted. */
#include "support/cmocka.h"

#include "support/scratch.h"
#include <crnn/crnn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const crnn_model_sizes sizes = {4, 2, 3, 2, 0.25F};
enum { B = 2 };

static crnn_checkpoint *make(bool training)
{
    crnn_checkpoint *c = crnn_checkpoint_new(&sizes, B, training, NULL);
    int64_t n = crnn_model_parameters(&sizes);
    assert_non_null(c);
    for (int32_t v = 0; v < sizes.V; v++)
        c->vocab[v] = (uint32_t[]){'\n', 'a', 0xF1, 0x1F600}[v];
    for (int64_t i = 0; i < n; i++) {
        c->weights[i] = (float)i * 0.1F - 3;
        if (training) {
            c->m[i] = -(float)i * 1e-6F;
            c->v[i] = (float)i * 1e-30F;
        }
    }
    for (int64_t i = 0; training && i < sizes.L * B * sizes.H; i++)
        c->state[i] = 1.0F / (float)(i + 3);
    c->step = 1234;
    c->count = 1230;
    c->epoch = 3;
    c->position = 17;
    c->seed = UINT64_MAX - 5;
    c->rate_factor = 0.5;
    c->returns = 1;
    c->best_val_loss = 1.0 / 3;
    c->best_step = 1000;
    c->loss_last = 1.0 / 3;
    c->epoch_loss_sum = 0.1 + 0.2;
    c->epoch_positions = 99;
    c->epoch_hits = 42;
    c->options = strdup("{\"lr\": 0.001, \"text\": \"a \\\"quoted\\\" ñ\"}");
    c->corpus_characters = 1 << 20;
    for (int i = 0; i < 32; i++)
        c->corpus_sha256[i] = (uint8_t)(i * 7);
    return c;
}

static char *in_dir(const char *dir, const char *name)
{
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    sprintf(path, "%s/%s", dir, name);
    return path;
}

static char *save(const crnn_checkpoint *c, const char *dir, const char *name)
{
    crnn_error err = {0};
    if (crnn_checkpoint_write(c, dir, name, NULL, NULL, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    return in_dir(dir, name);
}

static unsigned char *slurp(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *data = malloc(*size);
    assert_int_equal(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

static void put(const char *path, const unsigned char *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void what_is_written_comes_back_to_the_bit(void **state)
{
    (void)state;
    char *dir = scratch_new();
    for (int training = 0; training < 2; training++) {
        crnn_checkpoint *a = make(training), *b;
        crnn_error err = {0};
        char *path = save(a, dir, "ckpt-0000001234.safetensors");
        size_t bytes = (size_t)crnn_model_parameters(&sizes) * sizeof(float);
        b = crnn_checkpoint_read(path, &err);
        if (!b)
            fail_msg("%s", err.text);
        assert_memory_equal(a->weights, b->weights, bytes);
        assert_memory_equal(a->vocab, b->vocab, sizeof(uint32_t) * (size_t)sizes.V);
        if (training) {
            assert_memory_equal(a->m, b->m, bytes);
            assert_memory_equal(a->v, b->v, bytes);
            assert_memory_equal(a->state, b->state, sizeof(float) * (size_t)(sizes.L * B * sizes.H));
        } else {
            assert_null(b->m);
            assert_null(b->state);
        }
        assert_memory_equal(&a->sizes, &b->sizes, sizeof sizes);
        assert_int_equal(a->step, b->step);
        assert_int_equal(a->count, b->count);
        assert_int_equal(a->epoch, b->epoch);
        assert_int_equal(a->position, b->position);
        assert_true(a->seed == b->seed);
        assert_true(a->rate_factor == b->rate_factor && a->best_val_loss == b->best_val_loss);
        assert_true(a->loss_last == b->loss_last);
        assert_true(a->epoch_loss_sum == b->epoch_loss_sum);
        assert_int_equal(a->epoch_hits, b->epoch_hits);
        assert_string_equal(a->options, b->options);
        assert_memory_equal(a->corpus_sha256, b->corpus_sha256, 32);
        crnn_checkpoint_free(a);
        crnn_checkpoint_free(b);
        free(path);
    }
    scratch_remove(dir);
}

static void infinity_is_a_best_loss_like_any_other(void **state)
{
    (void)state;
    char *dir = scratch_new();
    crnn_checkpoint *a = make(true), *b;
    a->best_val_loss = INFINITY;
    a->best_step = -1;
    char *path = save(a, dir, "x");
    b = crnn_checkpoint_read(path, NULL);
    assert_non_null(b);
    assert_true(isinf(b->best_val_loss));
    crnn_checkpoint_free(a);
    crnn_checkpoint_free(b);
    free(path);
    scratch_remove(dir);
}

static int is_accepted(const char *path)
{
    crnn_error err = {0};
    crnn_checkpoint *read = crnn_checkpoint_read(path, &err);
    if (!read) {
        assert_int_equal(err.status, CRNN_ERR_FORMAT);
        assert_true(strlen(err.text) > 10);
    }
    crnn_checkpoint_free(read);
    return read != NULL;
}

/* The file is changed in place: writing it anew 44,000 times would bring it to the disk each time on some file systems. */
static void every_flipped_bit_and_every_truncation_is_seen(void **state)
{
    (void)state;
    char *dir = scratch_new();
    crnn_checkpoint *c = make(true);
    char *path = save(c, dir, "good");
    size_t size;
    int flipped = 0, cut = 0;
    unsigned char *good = slurp(path, &size);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    for (size_t bit = 0; bit < size * 8; bit++) {
        unsigned char bad = good[bit / 8] ^ (unsigned char)(1 << bit % 8);
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)(bit / 8)), 1);
        flipped += is_accepted(path);
        assert_int_equal(pwrite(fd, good + bit / 8, 1, (off_t)(bit / 8)), 1);
    }
    assert_int_equal(is_accepted(path), 1); /* whole again */
    for (size_t at = size; at-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
        cut += is_accepted(path);
    }
    close(fd);
    assert_int_equal(flipped, 0);
    assert_int_equal(cut, 0);
    printf("%zu flipped bits and %zu truncations of a checkpoint of %zu bytes, none accepted\n", size * 8, size, size);
    free(good);
    free(path);
    crnn_checkpoint_free(c);
    scratch_remove(dir);
}

static void bytes_after_the_end_are_seen(void **state)
{
    (void)state;
    char *dir = scratch_new();
    crnn_checkpoint *c = make(false);
    char *path = save(c, dir, "good");
    FILE *file = fopen(path, "ab");
    fputc('x', file);
    fclose(file);
    assert_null(crnn_checkpoint_read(path, NULL));
    free(path);
    crnn_checkpoint_free(c);
    scratch_remove(dir);
}

static void a_value_that_is_not_finite_is_never_published(void **state)
{
    (void)state;
    char *dir = scratch_new();
    for (int where = 0; where < 4; where++) {
        crnn_checkpoint *c = make(true);
        crnn_error err = {0};
        float *role[] = {c->weights, c->m, c->v, c->state};
        role[where][1] = where % 2 ? NAN : -INFINITY;
        assert_int_equal(crnn_checkpoint_write(c, dir, "x", NULL, NULL, &err), CRNN_ERR_FORMAT);
        char *path = in_dir(dir, "x");
        assert_int_equal(access(path, F_OK), -1);
        free(path);
        crnn_checkpoint_free(c);
    }
    scratch_remove(dir);
}

static void a_full_disk_leaves_the_old_file_and_no_rubbish(void **state)
{
    (void)state;
    char *dir = scratch_new();
    crnn_checkpoint *c = make(true), *back;
    crnn_error err = {0};
    char *path = save(c, dir, "x");
    size_t size;
    free(slurp(path, &size));
    struct rlimit old, little;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    c->step++;
    c->count++;
    for (size_t room = 0; room < size; room += 97) {
        little = old;
        little.rlim_cur = room;
        setrlimit(RLIMIT_FSIZE, &little);
        crnn_status status = crnn_checkpoint_write(c, dir, "x", NULL, NULL, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, CRNN_ERR_IO);
    }
    back = crnn_checkpoint_read(path, &err);
    assert_non_null(back);
    assert_int_equal(back->step, 1234);
    char command[600];
    snprintf(command, sizeof command, "test $(ls -A '%s' | wc -l) = 1", dir);
    assert_int_equal(system(command), 0);
    crnn_checkpoint_free(back);
    crnn_checkpoint_free(c);
    free(path);
    scratch_remove(dir);
}

static void an_unknown_version_is_refused_with_both_numbers(void **state)
{
    (void)state;
    char *dir = scratch_new();
    crnn_checkpoint *c = make(false);
    crnn_error err = {0};
    char *path = save(c, dir, "x");
    size_t size;
    unsigned char *data = slurp(path, &size);
    unsigned char *version = memmem(data, size, "\"1.0\"", 5);
    assert_non_null(version);
    version[1] = '7';
    put(path, data, size);
    assert_null(crnn_checkpoint_read(path, &err));
    assert_non_null(strstr(err.text, "7.0"));
    assert_non_null(strstr(err.text, "1.0"));
    free(data);
    free(path);
    crnn_checkpoint_free(c);
    scratch_remove(dir);
}

static void the_digest_is_what_sha256sum_says(void **state)
{
    (void)state;
    char *dir = scratch_new(), command[1200];
    crnn_checkpoint *c = make(true);
    char *path = save(c, dir, "x");
    snprintf(command, sizeof command,
             "test \"$(head -c -32 '%s' | sha256sum | cut -d' ' -f1)\" = \"$(tail -c 32 '%s' | od -An -v -tx1 | tr -d "
             "' \\n')\"",
             path, path);
    assert_int_equal(system(command), 0);
    free(path);
    crnn_checkpoint_free(c);
    scratch_remove(dir);
}

/* An independent reader in Python, with the format's own library where it is installed. */
static void another_reader_opens_it(void **state)
{
    (void)state;
    if (system("python3 -c pass 2>/dev/null") != 0)
        skip();
    static const char script[] =
        "import json, struct, sys\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "n, = struct.unpack('<Q', data[:8])\n"
        "header = json.loads(data[8:8 + n])\n"
        "meta = header.pop('__metadata__')\n"
        "assert n % 8 == 0 and meta['format'] == 'crnn-checkpoint' and meta['step'] == '1234'\n"
        "assert json.loads(meta['options'])['text'] == 'a \"quoted\" \\u00f1'\n"
        "begin, end = header['gru_1/recurrent_kernel']['data_offsets']\n"
        "assert header['gru_1/recurrent_kernel']['shape'] == [3, 9] and end - begin == 4 * 27\n"
        "begin, end = header['vocab']['data_offsets']\n"
        "assert struct.unpack('<4i', data[8 + n + begin:8 + n + end]) == (10, 97, 241, 0x1F600)\n"
        "begin, end = header['embedding/embeddings']['data_offsets']\n"
        "values = struct.unpack('<8f', data[8 + n + begin:8 + n + end])\n"
        "assert all(abs(v - (i * 0.1 - 3)) < 1e-6 for i, v in enumerate(values))\n"
        "try:\n"
        "    from safetensors import safe_open\n"
        "except ImportError:\n"
        "    sys.exit(0)\n"
        "with safe_open(sys.argv[1], 'np') as f:\n"
        "    assert set(f.keys()) == set(header) and f.get_tensor('state').shape == (2, 2, 3)\n";
    char *dir = scratch_new(), command[1200];
    crnn_checkpoint *c = make(true);
    char *path = save(c, dir, "x"), *code = in_dir(dir, "read.py");
    put(code, (const unsigned char *)script, strlen(script));
    snprintf(command, sizeof command, "python3 '%s' '%s'", code, path);
    assert_int_equal(system(command), 0);
    free(code);
    free(path);
    crnn_checkpoint_free(c);
    scratch_remove(dir);
}

static int notes;
static void count_note(void *user, const char *sentence)
{
    (void)user;
    assert_non_null(strstr(sentence, "skipped a checkpoint"));
    notes++;
}

static void a_run_stands_for_its_newest_valid_checkpoint(void **state)
{
    (void)state;
    char *run = scratch_new(), *dir = in_dir(run, "checkpoints"), *path = NULL;
    crnn_checkpoint *c = make(true), *found;
    crnn_error err = {0};
    assert_null(crnn_checkpoint_find(run, false, NULL, NULL, NULL, &err)); /* no run yet */
    assert_int_equal(mkdir(dir, 0777), 0);
    c->best_step = 7;
    for (int step = 6; step <= 9; step++) {
        char name[64];
        snprintf(name, sizeof name, "ckpt-%010d.safetensors", step);
        c->step = step;
        c->count = step;
        free(save(c, dir, name));
    }
    char *other = in_dir(dir, "ckpt-99.safetensors"), *newest = in_dir(dir, "ckpt-0000000009.safetensors");
    put(other, (const unsigned char *)"x", 1); /* not a name of ours */
    put(newest, (const unsigned char *)"damaged and short", 17);
    notes = 0;
    found = crnn_checkpoint_find(run, false, &path, count_note, NULL, &err);
    assert_non_null(found);
    assert_int_equal(found->step, 8);
    assert_int_equal(notes, 1);
    assert_non_null(strstr(path, "ckpt-0000000008.safetensors"));
    crnn_checkpoint_free(found);
    free(path);
    found = crnn_checkpoint_find(run, true, &path, NULL, NULL, &err);
    assert_non_null(found);
    assert_int_equal(found->step, 7);
    crnn_checkpoint_free(found);
    free(path);
    for (int step = 6; step <= 8; step++) {
        char name[64];
        snprintf(name, sizeof name, "ckpt-%010d.safetensors", step);
        char *damaged = in_dir(dir, name);
        assert_int_equal(truncate(damaged, 100), 0);
        free(damaged);
    }
    assert_null(crnn_checkpoint_find(run, false, NULL, NULL, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    free(other);
    free(newest);
    free(dir);
    crnn_checkpoint_free(c);
    scratch_remove(run);
}

static void weights_come_from_files_of_any_width(void **state)
{
    (void)state;
    crnn_error err = {0};
    const crnn_model_sizes golden = {65, 32, 64, 1, 0}, wrong = {65, 32, 63, 1, 0};
    float *w = malloc((size_t)crnn_model_parameters(&golden) * sizeof *w);
    const char *path = CRNN_SOURCE_DIR "/tests/golden/trajectory-tinyshakespeare/init.safetensors";
    assert_int_equal(crnn_weights_read(path, &golden, w, &err), CRNN_OK);
    assert_int_equal(crnn_weights_read(path, &wrong, w, &err), CRNN_ERR_FORMAT);
    assert_non_null(strstr(err.text, "gru/kernel"));
    assert_int_equal(crnn_weights_read("/nonexistent", &golden, w, &err), CRNN_ERR_IO);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back_to_the_bit),
        cmocka_unit_test(infinity_is_a_best_loss_like_any_other),
        cmocka_unit_test(every_flipped_bit_and_every_truncation_is_seen),
        cmocka_unit_test(bytes_after_the_end_are_seen),
        cmocka_unit_test(a_value_that_is_not_finite_is_never_published),
        cmocka_unit_test(a_full_disk_leaves_the_old_file_and_no_rubbish),
        cmocka_unit_test(an_unknown_version_is_refused_with_both_numbers),
        cmocka_unit_test(the_digest_is_what_sha256sum_says),
        cmocka_unit_test(another_reader_opens_it),
        cmocka_unit_test(a_run_stands_for_its_newest_valid_checkpoint),
        cmocka_unit_test(weights_come_from_files_of_any_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
