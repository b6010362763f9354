#include "support/program.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* In the child: becomes the program. */
static void become(const char *dir, const char *const *arguments)
{
    enum { MOST = 60 };
    char *argv[MOST + 2];
    const char *program = getenv("CRNN_PROGRAM");
    int count = 0;
    argv[count++] = (char *)(program ? program : "crnn-gpu");
    for (int i = 0; arguments[i] && count < MOST; i++)
        argv[count++] = (char *)arguments[i];
    argv[count] = NULL;
    if (chdir(dir) == 0)
        execvp(argv[0], argv);
    perror(argv[0]);
    _exit(127);
}

static void forget(program_run *run)
{
    free(run->out);
    free(run->err);
    run->out = run->err = NULL;
}

void program_start(program_run *run, const char *dir, const char *const *arguments)
{
    forget(run);
    for (int i = 0; i < 2; i++)
        if (!(run->files[i] = tmpfile()))
            give_up("a temporary file");
    run->seconds = now_seconds();
    run->pid = fork();
    if (run->pid < 0)
        give_up("fork");
    if (run->pid > 0)
        return;
    int nothing = open("/dev/null", O_RDONLY);
    if (dup2(nothing, 0) < 0 || dup2(fileno(run->files[0]), 1) < 0 || dup2(fileno(run->files[1]), 2) < 0)
        _exit(127);
    become(dir, arguments);
}

/* All of an open file, by pread: its position is shared with the program, and must not move. */
static char *read_all(FILE *file, size_t *size)
{
    off_t end = lseek(fileno(file), 0, SEEK_END);
    char *text = malloc((size_t)end + 1);
    ssize_t got = text ? pread(fileno(file), text, (size_t)end, 0) : -1;
    if (got < 0)
        give_up("reading what the program said");
    text[got] = 0;
    *size = (size_t)got;
    return text;
}

/* The exit status as a shell gives it. */
static int shell_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void program_wait(program_run *run)
{
    struct rusage usage;
    int status;
    size_t size;
    if (wait4(run->pid, &status, 0, &usage) != run->pid)
        give_up("wait4");
    run->seconds = now_seconds() - run->seconds;
    run->peak_kib = usage.ru_maxrss;
    run->status = shell_status(status);
    run->out = read_all(run->files[0], &run->out_size);
    run->err = read_all(run->files[1], &size);
    for (int i = 0; i < 2; i++)
        fclose(run->files[i]);
}

bool program_ended(const program_run *run)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == run->pid;
}

void program_signal(const program_run *run, int number)
{
    kill(run->pid, number);
}

bool program_said(program_run *run, const char *text)
{
    for (int i = 0; i < 3000; i++) {
        /* Not lseek on the shared position: the program writes there. */
        char said[65536];
        ssize_t got = pread(fileno(run->files[1]), said, sizeof said - 1, 0);
        said[got > 0 ? got : 0] = 0;
        if (strstr(said, text))
            return true;
        sleep_ms(10);
    }
    return false;
}

void program_free(program_run *run)
{
    forget(run);
}

char *program_on_terminal(program_run *run, const char *dir, const char *const *arguments)
{
    forget(run);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return NULL; /* /dev/pts is missing in some containers */
    ioctl(master, TIOCSWINSZ, &(struct winsize){.ws_row = 24, .ws_col = 80});
    run->pid = fork();
    if (run->pid < 0)
        give_up("fork");
    if (run->pid == 0) {
        setsid();
        int slave = open(ptsname(master), O_RDWR);
        if (slave < 0 || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0)
            _exit(127);
        close(master);
        become(dir, arguments);
    }
    size_t size = 0, room = 1 << 20;
    char *text = malloc(room);
    if (!text)
        give_up("memory");
    for (;;) { /* ends with EIO, once the program has closed its side */
        ssize_t got = read(master, text + size, room - 1 - size);
        if (got <= 0)
            break;
        size += (size_t)got;
    }
    text[size] = 0;
    close(master);
    int status;
    if (waitpid(run->pid, &status, 0) != run->pid)
        give_up("waitpid");
    run->status = shell_status(status);
    return text;
}
