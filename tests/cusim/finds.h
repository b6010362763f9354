/* finds.h - that the simulator finds a mistake: in a process of its own, since it ends the program. */
#ifndef CUSIM_TESTS_FINDS_H
#define CUSIM_TESTS_FINDS_H

#include "support/cmocka.h"

#include <cusim_control.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char said[16384];

/* Runs mistake(p) in a process of its own, p being [1024] zeros on the device, and waits for the device. Returns its exit status (a
   signal as 128 and more), with what it wrote on stderr in said. */
static int status_of(void (*mistake)(int *p))
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        int *p = NULL;
        bool ready = cudaMalloc((void **)&p, 4096) == cudaSuccess && cudaMemset(p, 0, 4096) == cudaSuccess &&
                     cudaDeviceSynchronize() ==
                         cudaSuccess; /* a fill does not wait, and streams of their own do not wait for it */
        if (ready) {
            mistake(p);
            cudaDeviceSynchronize();
        }
        fflush(NULL);
        _exit(cusim_errors() ? 66 : ready ? 0 : 99);
    }
    close(pipes[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(pipes[0], said + n, sizeof said - 1 - n)) > 0; n += (size_t)got)
        ;
    said[n] = 0;
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static void finds(void (*mistake)(int *p), const char *words, const char *place)
{
    int status = status_of(mistake);
    if (status == 0 || !strstr(said, words) || !strstr(said, place))
        fail_msg("\"%s\" and \"%s\" expected; status %d:\n%s", words, place, status, said);
}
#endif
