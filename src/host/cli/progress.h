/* progress.h - a training run on standard error: a bar on a terminal, plain lines elsewhere. */
#ifndef CRNN_CLI_PROGRESS_H
#define CRNN_CLI_PROGRESS_H

#include <crnn/train.h>
#include <stdbool.h>

typedef struct {
    bool terminal, drawn;
    double last; /* when it was last drawn, seconds */
} cli_progress;

void cli_progress_begin(cli_progress *progress);
void cli_progress_step(cli_progress *progress, const crnn_progress *at); /* redraws at most ten times a second */
void cli_progress_clear(cli_progress *progress);                         /* before anything else is printed */
void cli_progress_epoch(cli_progress *progress, const crnn_epoch_report *report);
/* A checkpoint is safe: one of the plain lines. */
void cli_progress_saved(const cli_progress *progress, int64_t step);
/* 75 -> "1:15" */
void cli_duration(char out[32], double seconds);

#endif
