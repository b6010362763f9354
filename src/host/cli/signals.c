/* Signals of a run. No thread that computes may run a signal handler: while oneDNN's sgemm runs, its stack pointer points into the heap, and
 * what the kernel pushes there for a handler destroys its neighbours (uxlfoundation/oneDNN issue 4845; up to 3.11). So all threads block these
 * signals but one, which waits for them. */
#include "host/cli/signals.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_int stop_signal, save_now;
static atomic_bool heeded;

static void *watch(void *set)
{
    for (int number;;) {
        if (sigwait(set, &number) != 0)
            continue;
        if (number == SIGUSR1)
            save_now = 1;
        else if (stop_signal || !heeded) /* the second one: at once */
            _exit(128 + number);
        else
            stop_signal = number;
    }
    return NULL;
}

bool cli_signals_catch(const char *command)
{
    static sigset_t set;
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away must not end a training run */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0 && pthread_create(&thread, NULL, watch, &set) == 0)
        return true;
    fprintf(stderr, "crnn-gpu %s: cannot make a thread that watches for signals\n", command);
    return false;
}

void cli_signals_heeded(bool yes)
{
    heeded = yes;
}

int cli_signals_ask(void *user)
{
    (void)user;
    if (stop_signal)
        return 1;
    return atomic_exchange(&save_now, 0) ? 2 : 0;
}

int cli_signals_status(void)
{
    return 128 + (stop_signal ? stop_signal : SIGINT);
}
