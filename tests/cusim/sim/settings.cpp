// settings.cpp - what the environment says, and the end of a run that found a mistake.
#include "internal.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cusim
{
// The numbers behind every random choice; known before the settings are read.
static uint64_t random_state = 0x9e3779b97f4a7c15ull;
uint64_t rnd()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}
static size_t number(const char *name, size_t otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtoull(s, nullptr, 0) : otherwise;
}
Settings::Settings()
{
    const char *seed = getenv("CUSIM_SEED");
    if (seed && *seed) {
        random_state ^= strtoull(seed, nullptr, 0) * 0xbf58476d1ce4e5b9ull + 1;
        policy = RANDOM;
        resident = 3;
        for (int i = 0; i < 8; i++)
            rnd();
    }
    if (const char *s = getenv("CUSIM_SCHED"))
        policy = *s == 'l' ? LIFO : *s == 'r' ? RANDOM : FIFO;
    resident = number("CUSIM_RESIDENT", resident);
    strict = number("CUSIM_STRICT", strict) != 0;
    async_streams = number("CUSIM_ASYNC", async_streams) != 0;
    stack_size = number("CUSIM_STACK", stack_size);
    sms = static_cast<int>(number("CUSIM_SMS", static_cast<size_t>(sms)));
    major = static_cast<int>(number("CUSIM_COMPUTE", static_cast<size_t>(major)));
    memory = number("CUSIM_MEMORY", memory);
    preempt = static_cast<unsigned>(number("CUSIM_PREEMPT", 0));
    max_errors = static_cast<int>(number("CUSIM_MAX_ERRORS", static_cast<size_t>(max_errors)));
}
Settings the_settings;
void print_place()
{
    if (grid)
        fprintf(stderr, "\n  in kernel %s", grid->name);
    if (cur)
        fprintf(stderr, ", block (%u,%u,%u) thread (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                threadIdx.y, threadIdx.z);
    fprintf(stderr, "\n");
}
void fail(const char *fmt, ...)
{
    fprintf(stderr, "cusim: error: ");
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    print_place();
    abort();
}
} // namespace cusim
