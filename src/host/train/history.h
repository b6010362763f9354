/* history.h - history.jsonl of a run: one JSON object a line, numbers that read back to the same bits.
 *
 * Lines are written at a known offset, so that a write that failed half-way is written over by the next attempt and no torn
 * line stays in the middle. What could not be written waits in memory. Nothing is allocated after opening.
 */
#ifndef CRNN_TRAIN_HISTORY_H
#define CRNN_TRAIN_HISTORY_H

#include <crnn/train.h>

typedef struct crnn_history crnn_history;

/* Opens directory/history.jsonl, an empty one. */
crnn_history *crnn_history_new(const char *directory, crnn_error *err);
/* The mean losses of the last epochs, the newest last. */
typedef struct {
    double loss[5];
    int count;
} crnn_recent_losses;
void crnn_recent_add(crnn_recent_losses *recent, double loss);
double crnn_recent_best(const crnn_recent_losses *recent); /* INFINITY where there is none */

/* What the history says of the run so far, where no checkpoint does. */
typedef struct {
    int skips; /* steps up to the last, in a row, that were skipped */
    crnn_recent_losses recent;
} crnn_history_past;

/* Opens it where a checkpoint at `step` left off: lines of later steps go, so does a torn last line, and so does the report on an epoch that
 * was cut short at `step` where the epoch goes on (mid_epoch). The cut is durable. past: may be NULL. A missing file is begun anew. */
crnn_history *crnn_history_resume(const char *directory, int64_t step, bool mid_epoch, crnn_history_past *past,
                                  crnn_error *err);
void crnn_history_free(crnn_history *history);

/* Each appends one line. CRNN_OK too where the line waits in memory because the disk refused it (crnn_history_waiting); an error
 * only when there is no more room for waiting lines. */
crnn_status crnn_history_step(crnn_history *history, int64_t step, int64_t epoch, double loss, float lr,
                              float grad_norm, crnn_error *err);
crnn_status crnn_history_epoch(crnn_history *history, const crnn_epoch_report *report, crnn_error *err);
/* A step whose loss or gradients were not finite. */
crnn_status crnn_history_skip(crnn_history *history, int64_t step, int64_t epoch, crnn_error *err);
/* The weights went back to those of checkpoint to_step. */
crnn_status crnn_history_return(crnn_history *history, int64_t step, int64_t epoch, int64_t to_step, double rate_factor,
                                int64_t returns, crnn_error *err);

bool crnn_history_waiting(const crnn_history *history); /* lines wait in memory */
/* Makes durable what was written; may be called from another thread. */
crnn_status crnn_history_sync(const crnn_history *history, crnn_error *err);

typedef enum { CRNN_LINE_STEP, CRNN_LINE_EPOCH, CRNN_LINE_SKIP, CRNN_LINE_RETURN, CRNN_LINE_OTHER } crnn_line_event;

/* What a line says; -1 and NAN where it does not. */
typedef struct {
    crnn_line_event event;
    int64_t step, epoch, to_step;
    double loss;        /* of a step; an epoch's mean */
    bool out_of_memory; /* so that nothing is known of it */
} crnn_history_line;
/* False where text, with its line's end or without, is no line of a history. */
bool crnn_history_parse(crnn_history_line *line, const char *text, size_t length);

enum { CRNN_NUMBER = 32 };
/* The shortest decimal that reads back to the same bits; "null" where value is not finite (JSON has no word for it). Returns out. */
char *crnn_number(char out[CRNN_NUMBER], double value);
char *crnn_number_float(char out[CRNN_NUMBER], float value);

#endif
