// fibers.cpp - one stack for each CUDA thread that has started and not ended, all on one OS thread.
#include "internal.h"
#include <pthread.h>
#include <sys/mman.h>
#if CUSIM_UCONTEXT
#include <ucontext.h>
#endif
#if CUSIM_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace cusim
{
Fiber main_fiber, *cur_fiber = &main_fiber;
// Containers are never destroyed: at exit LeakSanitizer still finds everything that is reachable through them.
static std::vector<Fiber *> &pool = *new std::vector<Fiber *>;
static size_t nfibers;
extern "C" void cusim_switch(void **save, void *load);
#if !CUSIM_UCONTEXT
#if defined(__x86_64__)
asm(".text\n.globl cusim_switch\n.type cusim_switch,@function\ncusim_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp,(%rdi)\n  movq %rsi,%rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size cusim_switch,.-cusim_switch\n");
#else
#error "no context switch for this processor: build with CUSIM_UCONTEXT=1"
#endif
#endif
static Fiber *fiber_new()
{
    const size_t stack_size = settings().stack_size;
    auto *f = new Fiber;
    size_t guard = ++nfibers < 16000 ? 4096 : 0; // each guard costs one more of vm.max_map_count (65530) mappings
    void *m = mmap(nullptr, stack_size + guard, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (m == MAP_FAILED)
        fail("no memory for fiber stack number %zu", nfibers);
    if (guard)
        mprotect(m, guard, PROT_NONE);
    f->lo = static_cast<char *>(m) + guard;
    f->hi = f->lo + stack_size;
#if CUSIM_UCONTEXT
    auto *u = new ucontext_t;
    getcontext(u);
    u->uc_stack.ss_sp = f->lo;
    u->uc_stack.ss_size = stack_size;
    u->uc_link = nullptr;
    makecontext(u, fiber_main, 0);
    f->uc = u;
#else
    auto **sp = reinterpret_cast<void **>(f->hi) - 2; // return address 0 ends back traces
    sp[0] = reinterpret_cast<void *>(fiber_main);
    sp[1] = nullptr;
    sp -= 6;
    f->sp = sp;
#endif
    return f;
}
Fiber *fiber_take()
{
    if (pool.empty())
        return fiber_new();
    Fiber *f = pool.back();
    pool.pop_back();
    return f;
}
void fiber_give(Fiber *f)
{
    pool.push_back(f);
}
void switch_to(Fiber *to)
{
    Fiber *from = cur_fiber;
    cur_fiber = to;
#if CUSIM_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->lo, static_cast<size_t>(to->hi - to->lo));
#endif
#if CUSIM_UCONTEXT
    swapcontext(static_cast<ucontext_t *>(from->uc), static_cast<ucontext_t *>(to->uc));
#else
    cusim_switch(&from->sp, to->sp);
#endif
#if CUSIM_ASAN
    __sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}
// The stack of the thread that calls into the simulator now; it need not be the one of the last time.
void fiber_main_stack()
{
#if CUSIM_UCONTEXT
    if (!main_fiber.uc)
        main_fiber.uc = new ucontext_t;
#endif
#if CUSIM_ASAN
    static thread_local char *lo, *hi;
    if (!lo) { // asked for once: of the main thread /proc/self/maps is read, which has a line for each fiber
        pthread_attr_t a;
        void *at;
        size_t n;
        pthread_getattr_np(pthread_self(), &a);
        pthread_attr_getstack(&a, &at, &n);
        pthread_attr_destroy(&a);
        lo = static_cast<char *>(at);
        hi = lo + n;
    }
    main_fiber.lo = lo;
    main_fiber.hi = hi;
#endif
    cur_fiber = &main_fiber;
}
void fiber_arrived(Fiber *f)
{
    (void)f;
#if CUSIM_ASAN
    __sanitizer_finish_switch_fiber(f->fake, nullptr, nullptr);
#endif
}
} // namespace cusim
