/* Preloaded into the program under test: lets one of its allocations fail.
 *
 * Ours are those that the program's own code asks for, by itself or through the C library, Jansson and utf8proc, and where that is asked for those
 * of OpenSSL, which makes thousands when it is first used; those of oneDNN, OpenMP, the C++ library and the loader go by. Environment:
 *   TRUST_LOG     file to append to
 *   TRUST_NTH     the allocation that fails, from 1
 *   TRUST_CRYPTO  those of OpenSSL count too
 */
#include "trust/ours.h"
#include "trust/record.h"
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

static void *(*next_malloc)(size_t), *(*next_calloc)(size_t, size_t), *(*next_realloc)(void *, size_t);
static void *(*next_aligned)(size_t, size_t);
static void (*next_free)(void *);
static long planned; /* 0: none */
static bool with_crypto;
static atomic_long asked;
static int log_fd = -1;
static __thread int inside __attribute__((tls_model("initial-exec")));

/* What is asked for while the functions above are looked up; never given back. */
static _Alignas(16) char early[1 << 12];
static size_t early_used;

static void *take_early(size_t size)
{
    size_t begin = early_used;
    early_used += (size + 15) / 16 * 16;
    return early_used <= sizeof early ? early + begin : NULL;
}

static bool is_early(const void *memory)
{
    return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

/* At the first call of all: libraries allocate before the constructor below is run. False while it is under way. */
static bool ready(void)
{
    static bool looking;
    if (next_free)
        return true;
    if (looking)
        return false;
    looking = true;
    next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    next_aligned = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "aligned_alloc");
    next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    return true;
}

__attribute__((constructor)) static void begin(void)
{
    void *frames[4];
    const char *file = getenv("TRUST_LOG"), *nth = getenv("TRUST_NTH");
    list_objects();
    backtrace(frames, 4); /* loads what it needs */
    if (file)
        log_fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    planned = nth ? atol(nth) : 0;
    with_crypto = getenv("TRUST_CRYPTO") != NULL;
}

/* What runs before main is not ours either: where the CUDA runtime is part of the program, it allocates there. */
typedef int main_function(int, char **, char **);
typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
static main_function *program_main;
static bool started;

static int begin_main(int argc, char **argv, char **environment)
{
    started = true;
    return program_main(argc, argv, environment);
}

start_function __libc_start_main;
EXPORT int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void), void (*end)(void),
                             void (*loader_end)(void), void *stack)
{
    program_main = program;
    return ((start_function *)dlsym(RTLD_NEXT, "__libc_start_main"))(begin_main, argc, argv, init, end, loader_end,
                                                                     stack);
}

static bool counts(object_kind kind)
{
    return kind == OBJECT_PROGRAM || kind == OBJECT_HELPER || (kind == OBJECT_CRYPTO && with_crypto);
}

/* Who asked: where it was the C library, who called that. */
static bool is_ours(const void *caller)
{
    void *frames[32];
    object_kind kind = object_of(caller);
    if (kind != OBJECT_LIBC)
        return counts(kind);
    inside++;
    int count = backtrace(frames, 32);
    inside--;
    for (int i = 0; i < count; i++)
        if ((kind = object_of(frames[i])) != OBJECT_LIBC)
            return counts(kind);
    return false;
}

static bool refuse(const void *caller)
{
    if (!planned || !started || inside || !is_ours(caller) || ++asked != planned)
        return false;
    struct {
        trust_record record;
        char name[8];
    } told = {{.kind = RECORD_INJECTED, .size = 8, .offset = planned}, "memory"};
    memcpy(told.record.mark, RECORD_MARK, sizeof told.record.mark);
    syscall(SYS_write, log_fd, &told, sizeof told);
    errno = ENOMEM;
    return true;
}

EXPORT void *malloc(size_t size)
{
    if (!ready())
        return take_early(size);
    return refuse(CALLER) ? NULL : next_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (!ready())
        return take_early(count * size);
    return refuse(CALLER) ? NULL : next_calloc(count, size);
}

EXPORT void *realloc(void *memory, size_t size)
{
    if (!ready() || is_early(memory)) {
        void *more = ready() ? next_malloc(size) : take_early(size);
        size_t left =
            memory ? (size_t)(early + sizeof early - (char *)memory) : 0; /* how much there was is not known */
        return more && memory ? memmove(more, memory, size < left ? size : left) : more;
    }
    return refuse(CALLER) ? NULL : next_realloc(memory, size);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return !ready() || refuse(CALLER) ? NULL : next_aligned(alignment, size);
}

EXPORT void free(void *memory)
{
    if (memory && !is_early(memory) && ready())
        next_free(memory);
}
