/* rundir.h - the directory of a run: lock, config.json, checkpoints/ckpt-<step, 10 digits>.safetensors.
 *
 * Whoever holds the lock is alone in it. Files are removed only where they are regular ones with a name that we give, through the
 * descriptor of their directory.
 */
#ifndef CRNN_TRAIN_RUNDIR_H
#define CRNN_TRAIN_RUNDIR_H

#include <crnn/train.h>

typedef struct {
    char *path, *checkpoints; /* DIR, DIR/checkpoints */
    int lock;                 /* descriptor; -1 where not held */
} crnn_rundir;

enum { CRNN_CHECKPOINT_NAME = 40 };
#define CRNN_MAX_STEP INT64_C(9999999999) /* what ten digits hold */
/* ckpt-<step>.safetensors, for 0 <= step <= CRNN_MAX_STEP. Returns out. */
char *crnn_checkpoint_name(char out[CRNN_CHECKPOINT_NAME], int64_t step);
/* The step of such a name; -1 where it is none. */
int64_t crnn_checkpoint_step(const char *name);

/* Locks the directory path and removes temporaries that a crash left. fresh: makes it, and refuses one that holds a run.
 * CRNN_ERR_IO where another process has the lock. dir must be closed even after a failure. */
crnn_status crnn_rundir_open(crnn_rundir *dir, const char *path, bool fresh, crnn_error *err);
void crnn_rundir_close(crnn_rundir *dir);

/* Removes checkpoints so that the `keep` newest up to step `newest` stay (0: all), and `best` (-1: none) whatever its age. Those of later steps
 * are not of this run's line and stay. back > 0: while the run lasts, the newest that is at least `back` steps old (or the oldest, while
 * none is) stays too, to go back to, and the oldest of the newer ones, which takes its place in time: two more at most. */
crnn_status crnn_rundir_prune(const char *checkpoints, int64_t keep, int64_t newest, int64_t best, int64_t back,
                              crnn_error *err);
/* The greatest step <= limit of a checkpoint there; -1 where there is none. */
int64_t crnn_rundir_newest(const char *checkpoints, int64_t limit);
/* The smallest step > above of a checkpoint there; -1 where there is none. */
int64_t crnn_rundir_oldest(const char *checkpoints, int64_t above);

/* Writes config.json: the options of the run, its text, its model and the device it runs on. */
crnn_status crnn_rundir_write_config(const crnn_rundir *dir, const char *options_json, const crnn_corpus *corpus,
                                     crnn_model *model, crnn_error *err);
/* The fields of options as a JSON object, malloc'd: what is recorded where the caller has no text of its own. NULL with err. */
char *crnn_options_json(const crnn_train_options *options, crnn_error *err);
/* The same options with the way to compute recurrent layers that was settled on, so that a run that goes on computes the same bits. malloc'd; NULL with
 * err. */
char *crnn_options_settled(const char *options, const char *rnn_algo, crnn_error *err);

#endif
