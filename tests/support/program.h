/* program.h - runs the program under test (CRNN_PROGRAM) as a user would, and keeps all that it said. */
#ifndef CRNN_TESTS_PROGRAM_H
#define CRNN_TESTS_PROGRAM_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct {
    int status;      /* exit status; 128 + number where a signal ended it */
    char *out, *err; /* standard output and error, whole, ended with NUL; owned */
    size_t out_size;
    long peak_kib;
    double seconds;
    pid_t pid; /* while it runs */
    FILE *files[2];
} program_run;

/* Starts the program in the directory dir with the arguments, ended by NULL. Only one at a time for each program_run. */
void program_start(program_run *run, const char *dir, const char *const *arguments);
/* Waits for its end and reads what it said. What an earlier run of the same struct said is freed. */
void program_wait(program_run *run);
/* Whether it has come to its end; wait for it all the same. */
bool program_ended(const program_run *run);
/* Sends a signal. */
void program_signal(const program_run *run, int number);
/* Waits until standard error holds the text, half a minute at most; false where it never does. */
bool program_said(program_run *run, const char *text);
void program_free(program_run *run);

/* Start and wait: program_do(&run, dir, "corpus", "book.txt"). */
#define program_do(run, dir, ...) (program_start(run, dir, (const char *const[]){__VA_ARGS__, NULL}), program_wait(run))

/* Starts the program with a terminal of 80 columns as its three standard files, and returns all that it wrote there, malloc'd;
 * run->status is set. NULL where no pseudo-terminal can be had. */
char *program_on_terminal(program_run *run, const char *dir, const char *const *arguments);

#endif
