/* Readers where the N-th allocation fails, or the N-th read, for every N: an error that says so, and nothing is kept. */
#include "support/cmocka.h"

#include "host/data/decode.h"
#include "host/train/config.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INJECTED 0
#elif defined(__has_feature)
#define INJECTED (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define INJECTED 1
#endif

static long countdown = -1, read_countdown = -1; /* calls until one fails; -1: none does */

#if INJECTED
enum { MOST = 1 << 14 };
static void *live[MOST]; /* allocated while that is counted, and not freed */
static long held;
static bool counting;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

#define CALLER __builtin_return_address(0)
extern char __executable_start, etext; /* the program with libcrnn in it; the libraries lie elsewhere */

/* Only what our code asks for: Jansson 2.14 reads past its buffer when it cannot get a larger one for a token. */
static bool fails(const char *caller)
{
    if (countdown < 0 || caller < &__executable_start || caller >= &etext || countdown-- > 0)
        return false;
    errno = ENOMEM;
    return true;
}

static void *got(void *memory)
{
    if (memory && counting && held < MOST)
        live[held++] = memory;
    return memory;
}

static void gone(const void *memory)
{
    long i = counting ? held : 0;
    while (i > 0 && live[i - 1] != memory)
        i--;
    if (memory && i > 0)
        live[i - 1] = live[--held];
}

void *malloc(size_t size)
{
    return fails(CALLER) ? NULL : got(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails(CALLER) ? NULL : got(__libc_calloc(count, size));
}

void *realloc(void *memory, size_t size)
{
    if (fails(CALLER))
        return NULL;
    gone(memory);
    return got(__libc_realloc(memory, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(CALLER) ? NULL : got(__libc_memalign(alignment, size));
}

void free(void *memory)
{
    gone(memory);
    __libc_free(memory);
}

ssize_t read(int fd, void *to, size_t size)
{
    if (read_countdown >= 0 && read_countdown-- == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_read, fd, to, size);
}

off_t lseek(int fd, off_t offset, int whence)
{
    if (read_countdown >= 0 && read_countdown-- == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_lseek, fd, offset, whence);
}
#endif

static char *dir;

/* --- what is read --------------------------------------------------------------------------------------------------------- */

static crnn_status read_checkpoint(crnn_error *err)
{
    crnn_checkpoint *c = crnn_checkpoint_read(scratch_path(dir, "run/checkpoints/ckpt-0000000000.safetensors"), err);
    crnn_checkpoint_free(c);
    return c ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status read_weights(crnn_error *err)
{
    const crnn_model_sizes sizes = {3, 2, 2, 1, 0};
    float weights[128];
    return crnn_weights_read(scratch_path(dir, "run/checkpoints/ckpt-0000000000.safetensors"), &sizes, weights, err);
}

static crnn_status find_best(crnn_error *err)
{
    char *path;
    crnn_checkpoint *c = crnn_checkpoint_find(scratch_path(dir, "run"), false, &path, NULL, NULL, err);
    crnn_checkpoint_free(c);
    free(path);
    return c ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status make_vocab(crnn_error *err)
{
    crnn_vocab *vocab = crnn_vocab_new((const uint32_t[]){1, 2, 3}, 3, err);
    crnn_vocab_free(vocab);
    return vocab ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status make_decoder(crnn_error *err)
{
    crnn_decoder *decoder = crnn_decoder_new("utf-8", CRNN_INVALID_ERROR, err);
    crnn_decoder_free(decoder);
    return decoder ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status read_config(crnn_error *err)
{
    json_t *config = crnn_config_read(scratch_path(dir, "run"), err);
    json_decref(config);
    return config ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status read_text(crnn_error *err)
{
    const char *path = scratch_path(dir, "text");
    crnn_corpus *corpus = crnn_corpus_read(&path, 1, &path, 1, NULL, err);
    crnn_corpus_free(corpus);
    return corpus ? CRNN_OK : CRNN_ERR_FORMAT;
}

static crnn_status see_the_doctor(crnn_error *err)
{
    const char *path = scratch_path(dir, "text");
    crnn_diagnosis *d = crnn_doctor_look(&path, 1, &path, 1, NULL, err);
    crnn_diagnosis_free(d);
    return d ? CRNN_OK : CRNN_ERR_FORMAT;
}

static int begin(void **state)
{
    (void)state;
    const crnn_model_sizes sizes = {3, 2, 2, 1, 0};
    crnn_checkpoint *c = crnn_checkpoint_new(&sizes, 2, true, NULL);
    dir = scratch_new();
    if (!c || scratch_shell(dir, "mkdir -p run/checkpoints") != 0)
        return 1;
    for (uint32_t v = 0; v < 3; v++)
        c->vocab[v] = 'a' + v;
    int status = (int)crnn_checkpoint_write(c, scratch_path(dir, "run/checkpoints"), "ckpt-0000000000.safetensors",
                                            NULL, NULL, NULL);
    crnn_checkpoint_free(c);
    scratch_text(dir, "run/config.json",
                 "{\"format\":\"crnn-gpu run\",\"options\":{\"batching\":\"streams\",\"batch\":1,\"length\":4,"
                 "\"shuffle-buffer\":10,\"seed\":1,\"log-every\":1},\"device\":{\"kind\":\"cpu\",\"name\":\"CPU\","
                 "\"versions\":\"x\",\"threads\":1},\"model\":{\"vocab\":3,\"embedding\":2,\"units\":2,\"layers\":1,"
                 "\"parameters\":47},\"corpus\":{\"characters\":33,\"val_characters\":0,\"sha256\":\"\"}}");
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++) /* with something of each kind for the doctor */
        text[i] = "una frase que se repite, \x01 con\r\notra l\xcc\x81nea y con un fin\n"[i % 57];
    scratch_write(dir, "text", text, 2964);
    return status;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* Every N until it goes well; the error is never silent. */
static void assert_survives(crnn_status (*read_it)(crnn_error *), long *counter, int least)
{
#if INJECTED
    int failed = 0;
    read_it(NULL); /* what libraries keep from their first use on */
    for (long n = 0; n < 100000; n++) {
        crnn_error err = {0};
        held = 0;
        counting = true;
        *counter = n;
        crnn_status status = read_it(&err);
        bool reached = *counter < 0;
        *counter = -1;
        counting = false;
        if (held != 0)
            fail_msg("failure %ld: %ld allocations are not freed", n, held);
        if (!reached) {
            assert_int_equal(status, CRNN_OK);
            if (failed < least)
                fail_msg("%d failures were met, not %d", failed, least);
            return;
        }
        if (status != CRNN_OK && (err.status == CRNN_OK || strlen(err.text) < 10))
            fail_msg("failure %ld is not told", n);
        failed += status != CRNN_OK;
        *counter = n;
        read_it(NULL); /* nobody wants the error */
        *counter = -1;
    }
    fail_msg("it never went well");
#else
    (void)read_it, (void)counter, (void)least;
    skip(); /* the sanitizer has the allocator */
#endif
}

static void every_allocation_of_a_reader_may_fail(void **state)
{
    (void)state;
    assert_survives(read_checkpoint, &countdown, 9);
    assert_survives(read_weights, &countdown, 3);
    assert_survives(find_best, &countdown, 10);
    assert_survives(make_vocab, &countdown, 1);
    assert_survives(make_decoder, &countdown, 1);
    assert_survives(read_config, &countdown, 1);
    assert_survives(read_text, &countdown, 10);
    assert_survives(see_the_doctor, &countdown, 20);
}

static void every_read_may_fail(void **state)
{
    (void)state;
    assert_survives(read_checkpoint, &read_countdown, 8);
    assert_survives(read_weights, &read_countdown, 5);
    assert_survives(find_best, &read_countdown, 8);
    assert_survives(read_config, &read_countdown, 1);
    assert_survives(read_text, &read_countdown, 2);
    assert_survives(see_the_doctor, &read_countdown, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_a_reader_may_fail),
        cmocka_unit_test(every_read_may_fail),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
