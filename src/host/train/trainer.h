/* trainer.h - what the parts of a run share: trainer.c (steps and epochs), saving.c, rescue.c (bad losses), begin.c (new and resumed). */
#ifndef CRNN_TRAIN_TRAINER_H
#define CRNN_TRAIN_TRAINER_H

#include "host/train/history.h"
#include "host/train/rundir.h"
#include "host/train/saver.h"
#include <crnn/train.h>

enum {
    CRNN_WINDOW = 32,      /* steps that the speed shown is the mean of */
    CRNN_BAD_IN_A_ROW = 3, /* bad steps that send a run back */
    CRNN_BACK_STEPS = 100, /* how far, at least: what blew up had begun to before it showed */
    CRNN_MAX_RETURNS = 3,
    CRNN_WORSE_TIMES = 3, /* --stop-if-worse: so many times the best mean loss of the last epochs */
    CRNN_MAX_FAILED_SAVES = 3
};

/* step == epoch * steps_per_epoch + position, always: a step that was skipped and one before a return count as any other. */
struct crnn_trainer {
    crnn_train_options options;
    crnn_train_hooks hooks;
    const crnn_corpus *corpus; /* borrowed */
    crnn_rundir dir;
    crnn_history *history;
    crnn_batches *batches;
    crnn_model *model;
    crnn_saver *saver;
    int64_t steps_per_epoch, total;

    int64_t most;              /* steps that are made at once */
    int64_t *starts;           /* [most,B] their rows */
    crnn_update *updates;      /* [most] */
    crnn_step_result *results; /* [most] */

    int64_t step, count;     /* updates asked for; Adam's own, of those that were made */
    int64_t epoch, position; /* 0-based epoch; steps of it that are done */
    double epoch_loss_sum, loss_last;
    int64_t epoch_positions, epoch_hits;
    double rate_factor;
    int64_t returns;
    int bad_in_a_row;
    int unsound_saves;           /* in a row, that found values that are not finite */
    crnn_recent_losses recent;   /* of the epochs before */
    bool report_due;             /* the epoch's steps are done, its held-out text is not scored yet */
    bool stop_asked, save_asked; /* by the hook */

    double val_loss; /* of the weights after step val_step */
    int64_t val_step;
    double best_val_loss; /* of the best checkpoint on held-out text */
    int64_t best_step;
    int64_t saved_step; /* of the newest checkpoint that is safe; -1 before the first */
    int64_t asked_step; /* of the save in flight, or the last one */
    int failed_saves;   /* in a row */
    bool history_noted; /* that the history cannot be written */

    double epoch_began;       /* clock, in this process */
    int64_t epoch_run;        /* steps of the epoch made in this process */
    double took[CRNN_WINDOW]; /* seconds of the last steps */
    int64_t timed;            /* steps timed */
};

/* Tells the caller a sentence. */
void crnn_trainer_note(const crnn_trainer *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
double crnn_now(void); /* seconds of a steady clock */

/* saving.c. Begins a save of the present step, after the one in flight. */
crnn_status crnn_trainer_begin_save(crnn_trainer *t, crnn_error *err);
/* Reports a save that is done (wait: the one in flight, too). An error after too many failures in a row. */
crnn_status crnn_trainer_collect_save(crnn_trainer *t, bool wait, crnn_error *err);
/* Returns when the present step is safe. */
crnn_status crnn_trainer_save(crnn_trainer *t, crnn_error *err);

/* rescue.c. After a step whose loss or gradients were not finite (the model is as before it): skip it, or go back. */
crnn_status crnn_trainer_rescue(crnn_trainer *t, crnn_error *err);
/* Goes back to the weights of an earlier checkpoint, at half the rate. why: what was seen, for the note. */
crnn_status crnn_trainer_go_back(crnn_trainer *t, const char *why, crnn_error *err);

#endif
