/* trust.h - trials of a promise: the program is run with something going wrong, and what came of it is judged and counted.
 *
 * Each test has a short tier, and a long one where CRNN_TRUST is "long" (tests/trust/run --long).
 */
#ifndef CRNN_TESTS_TRUST_H
#define CRNN_TESTS_TRUST_H

#include "support/cmocka.h"
#include "trust/record.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

bool trust_long(void);
/* The one or the other, by tier. */
long trust_pick(long in_short, long in_long);
double trust_now(void); /* seconds of a steady clock */
/* Draws from 0..n-1; the same sequence in every run of a test. */
uint64_t trust_random(uint64_t n);

/* --- counting --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *promise;
    long trials, failures;
} tally;

/* Counts a trial; the first of those that fail are told. Returns fine. */
bool tally_trial(tally *t, bool fine, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Tells the sum, adds a line to the table (CRNN_TRUST_TABLE, where that is set), and fails the test where a trial failed or none was made. */
void tally_end(const tally *t);
/* A figure that is no trial, for the table. */
void tally_note(const char *promise, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- running ---------------------------------------------------------------------------------------------------------------- */

/* Set what shall be before the start; the rest is there after the wait. */
typedef struct {
    const char *plan;  /* of calls.c, or NULL */
    long allocation;   /* the one that fails; 0: none */
    bool crypto;       /* allocations of OpenSSL count too */
    const char *root;  /* what happens below it is recorded; NULL: nothing */
    long file_limit;   /* RLIMIT_FSIZE in bytes; 0: none */
    const char *under; /* command that the program runs under; NULL: none */
    bool append;       /* to the log of the trial before */
    const char *out;   /* file for standard output; NULL: /dev/null */
    int status;        /* as a shell gives it */
    char *log;         /* what it said on standard error, and records; owned; ends with NUL */
    size_t log_size;
    char *words;       /* what it said alone */
    char injected[32]; /* the call that went wrong; "" where the plan was not reached */
    double seconds;
    pid_t pid;
} trial;

void trial_start(trial *t, const char *dir, const char *const *arguments);
void trial_wait(trial *t);
/* Waits until it has said the text, half a minute at most; false where it has not. */
bool trial_said(const char *text);
void trial_free(trial *t);
#define trial_do(t, dir, ...) (trial_start(t, dir, (const char *const[]){__VA_ARGS__, NULL}), trial_wait(t))

/* The greatest step that the words report as saved; -1 where there is none. */
int64_t trial_saved(const char *words);
/* Whether it ended by itself with one of the statuses of the program, and said why where that is not 0. */
bool trial_ended_well(const trial *t);
/* Whether the recorders work in this build of the program. */
bool trial_can_record(const char *dir);

/* --- runs ------------------------------------------------------------------------------------------------------------------- */

/* As scratch_new, in memory where the system has a place for that: thousands of small files are written. */
char *trust_scratch(void);
/* A text of size bytes in dir/name that is worth learning. */
void trust_text(const char *dir, const char *name, size_t size);
/* The digest of everything that a continuation must bring back: every byte of the checkpoint of that step, and the history but for its clocks.
 * False, with a sentence in why, where the run does not have it. */
bool trust_digest(uint8_t digest[32], const char *dir, const char *run, int64_t step, char why[200]);
/* The step of the run's newest checkpoint as a reader finds it, -1 where there is none; *passed: how many it passed over. */
int64_t trust_newest(const char *run_path, int *passed);

/* A run that is over in a moment, saves often and prunes; steps and out are given beside it. */
#define TRUST_TINY                                                                                                     \
    "--units", "6", "--embedding", "3", "--batch", "2", "--length", "8", "--threads", "1", "--device", "cpu",          \
        "--epochs", "1000", "--checkpoint-steps", "3", "--checkpoint-every", "0", "--keep", "2", "--val-split", "0"

/* The run that nothing disturbed, to compare others with. */
typedef struct {
    char text[300]; /* absolute path of the text */
    char steps[24]; /* how many, as text */
    int64_t end;    /* and as a number */
    uint8_t digest[32];
    double seconds; /* that it took */
} trust_whole;

/* Makes the text and the undisturbed run below dir. */
void trust_make_whole(trust_whole *whole, const char *dir, int64_t steps);
/* Whether the directory `where` has a run that holds what was reported as saved (step, or -1), with no newer file that cannot be read. */
bool trust_intact(const char *where, int64_t saved, char why[200]);
/* Continues where/run to the end, or, where nothing was reported as saved, may begin it anew. Whether it ends as the undisturbed one did. */
bool trust_goes_on(const trust_whole *whole, const char *where, int64_t saved, char why[200]);

#endif
