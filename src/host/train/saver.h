/* saver.h - checkpoints written beside training: one snapshot, one thread, one save in flight.
 *
 * The thread that trains fills the snapshot, begins the save and goes on; the saver's thread makes the history durable, writes the
 * checkpoint by its protocol and prunes. What it has to say waits in the result, so that hooks are called by the thread that
 * trains alone. All memory of ours is allocated at the start.
 */
#ifndef CRNN_TRAIN_SAVER_H
#define CRNN_TRAIN_SAVER_H

#include "host/train/history.h"
#include <crnn/train.h>

typedef struct crnn_saver crnn_saver;

typedef struct {
    crnn_status status; /* of the write; the rest is of no account to a run */
    char error[480], note[480];
    int64_t step, best_step;
    double best_val_loss;
    const char *path; /* of the checkpoint; lives until the next save */
} crnn_save_result;

/* checkpoints: directory, copied. history: borrowed, outlives the saver. keep: as crnn_rundir_prune. */
crnn_saver *crnn_saver_new(const char *checkpoints, int64_t keep, const crnn_model_sizes *sizes, int32_t B,
                           const crnn_history *history, crnn_error *err);
/* Waits for a save in flight. */
void crnn_saver_free(crnn_saver *saver);

/* The snapshot, to fill; only while no save is under way or waits to be taken. */
crnn_checkpoint *crnn_saver_snapshot(crnn_saver *saver);
/* Hands the snapshot to the thread. back: as crnn_rundir_prune. */
void crnn_saver_begin(crnn_saver *saver, int64_t back);
/* Gives the result of the last save, once; false where there is none (yet). wait: until the one in flight is done. */
bool crnn_saver_take(crnn_saver *saver, bool wait, crnn_save_result *result);

#endif
