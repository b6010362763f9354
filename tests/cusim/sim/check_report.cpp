// check_report.cpp - one sentence for each mistake, with its file and line; exit status 66 at the end.
#include "check.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <unistd.h>

extern "C" char __executable_start, _end;
namespace cusim
{
static int errors;
bool in_image(const void *p)
{
    return p >= &__executable_start && p < &_end;
}
size_t image_offset(const void *pc)
{
    return static_cast<size_t>(static_cast<const char *>(pc) - &__executable_start);
}
std::string where(size_t pc)
{
    char cmd[256], out[512] = "";
    snprintf(cmd, sizeof cmd, "addr2line -i -e /proc/%d/exe -s 0x%zx", static_cast<int>(getpid()), pc - 1);
    std::string r;
    if (FILE *f = popen(cmd, "r")) {
        for (int i = 0; i < 3 && fgets(out, sizeof out, f); i++) {
            out[strcspn(out, "\n ")] = 0;
            r += i ? " < " : "";
            r += out;
        }
        pclose(f);
    }
    return r.empty() ? "?" : r;
}
// Each place is reported once.
bool first_time(size_t pc, const char *what)
{
    static std::set<std::pair<size_t, std::string>> &seen = *new std::set<std::pair<size_t, std::string>>;
    return seen.insert({pc, what}).second;
}
static void at_exit()
{
    fflush(nullptr);
    fprintf(stderr, "cusim: %d error(s)\n", errors);
    _exit(66);
}
void report(const void *pc, const void *addr, const Alloc *a, const char *fmt, ...)
{
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    fprintf(stderr, "cusim: %s\n", msg);
    if (pc)
        fprintf(stderr, "  at %s", where(image_offset(pc)).c_str());
    print_place();
    if (a)
        fprintf(stderr, "  %s of %zu bytes, offset %td\n", a->what, a->size, static_cast<const char *>(addr) - a->base);
    else
        fprintf(stderr, "  address %p\n", addr);
    if (errors++ == 0)
        atexit(at_exit);
    if (errors >= settings().max_errors) {
        fprintf(stderr, "cusim: stopping after %d errors\n", errors);
        _exit(66);
    }
}
} // namespace cusim
extern "C" int cusim_errors(void)
{
    return cusim::errors;
}
extern "C" bool cusim_checks(void)
{
    return true;
}
