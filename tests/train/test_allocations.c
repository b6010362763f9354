/* Nothing is allocated inside a training step. What our code asks for is judged; what libgomp and oneDNN do for themselves is told. */
#include "support/cmocka.h"

#include "support/scratch.h"
#include <crnn/crnn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#elif defined(__has_feature)
#define COUNTED (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define COUNTED 1
#endif

static atomic_llong ours, theirs;

#if COUNTED
extern char __executable_start, etext; /* the program with libcrnn in it; the libraries lie elsewhere */

static void book(const char *caller)
{
    if (caller >= &__executable_start && caller < &etext)
        ours++;
    else
        theirs++;
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    book(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    book(__builtin_return_address(0));
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    book(__builtin_return_address(0));
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    book(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    book(__builtin_return_address(0));
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : 12; /* ENOMEM */
}
#endif

enum { STEPS = 40, WARM = 5 }; /* a library may still prepare something in its first calls */

static long long our_count[STEPS + 1], their_count[STEPS + 1];

static void on_progress(void *user, const crnn_progress *progress)
{
    (void)user;
    our_count[progress->step] = ours;
    their_count[progress->step] = theirs;
}

static void count_of(int64_t at_once)
{
    crnn_error err = {CRNN_OK, ""};
    char *dir = scratch_new(), text[1001];
    memset(text, 'a', 1000);
    for (int i = 0; i < 1000; i++)
        text[i] = (char)('a' + i * i % 23);
    text[1000] = '\0';
    crnn_text_options how = crnn_text_options_default();
    crnn_corpus *corpus = crnn_corpus_from_text(text, 1000, &how, &err);
    crnn_train_options o = crnn_train_options_default();
    crnn_train_hooks hooks = {.progress = on_progress};
    o.device.kind = CRNN_DEVICE_CPU;
    o.device.threads = 1;
    o.B = 2;
    o.T = 10;
    o.E = 8;
    o.H = 16;
    o.L = 2;
    o.dropout = 0.1F;
    o.epochs = 1;
    o.max_steps = STEPS;
    o.clip = 1;
    o.steps_at_once = at_once;
    crnn_trainer *trainer = corpus ? crnn_trainer_new(dir, corpus, &o, &hooks, &err) : NULL;
    if (!trainer || crnn_trainer_run(trainer, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    print_message("%d steps: %lld allocations of ours, %lld in libraries\n", STEPS - WARM,
                  our_count[STEPS] - our_count[WARM], their_count[STEPS] - their_count[WARM]);
    assert_true(our_count[WARM] > 0); /* else nothing was counted */
    assert_true(our_count[STEPS] == our_count[WARM]);
    crnn_trainer_free(trainer);
    crnn_corpus_free(corpus);
    scratch_remove(dir);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    count_of(1);
}

/* The warm ones are a call of their own. */
static void neither_do_several_at_once(void **state)
{
    (void)state;
    count_of(WARM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_allocates_nothing),
                                       cmocka_unit_test(neither_do_several_at_once)};
    return COUNTED ? cmocka_run_group_tests(tests, NULL, NULL) != 0 : 77;
}
