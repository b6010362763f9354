/* verify.h - what a run recorded, held against itself: every file by its own rules, all of them together, and by training again. */
#ifndef CRNN_VERIFY_H
#define CRNN_VERIFY_H

#include <crnn/checkpoint.h>
#include <crnn/error.h>
#include <crnn/train.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Told of each file that was looked at. path: escaped for a terminal. what: what a sound file holds, or what is wrong, one sentence. */
typedef void (*crnn_verified)(void *user, const char *path, bool sound, const char *what);

/* Checks a run's config.json, each of its checkpoints from the oldest on (format, digest, finite values, vocabulary, and the chain: name, step,
 * counters, sizes, text and seed against config.json and the checkpoint before) and its history (each line, no step missing between
 * checkpoints, the losses that they hold); or a single checkpoint by itself. CRNN_OK where all are sound, CRNN_ERR_FORMAT where one is not,
 * CRNN_ERR_IO where nothing is there to be looked at. Only reads. */
crnn_status crnn_verify(const char *run_or_file, crnn_verified report, void *user, crnn_error *err);

/* Which stretch of a run can be trained again, and what came of it then. */
typedef struct {
    char *run;             /* directory */
    char *from_path;       /* of the checkpoint that it begins with */
    crnn_checkpoint *from; /* read */
    crnn_checkpoint *to;   /* a later one, whose bits the replay must reach; NULL where only losses are compared */
    int64_t last;          /* step that it ends with */
    char *options;         /* JSON: the run's options in that stretch */
    crnn_device_kind
        kind; /* that the run was trained on, with how many threads, by config.json; AUTO and 0 where it does not say */
    int32_t threads;
    char device[128], versions[160];
} crnn_replay;

/* Chooses at most `steps` steps (>= 1) of a run, between two checkpoints where there are two that near, the newest such; else after the newest checkpoint
 * that later steps are recorded of. Of a single checkpoint: those after it. The run is the directory over it. NULL with err (CRNN_ERR_FORMAT:
 * nothing that could be compared). */
crnn_replay *crnn_replay_plan(const char *run_or_file, int64_t steps, crnn_error *err);
void crnn_replay_free(crnn_replay *replay);
/* Trains the stretch again, in a directory of its own under TMPDIR that is removed afterwards. corpus, options: as the plan's options say.
 * hooks: note, progress and stop (1) count. CRNN_ERR_STOPPED after a stop. CRNN_OK: every recorded loss, rate and gradient norm, and the checkpoint's values, came out to the same
 * bits; losses (may be NULL): how many. CRNN_ERR_FORMAT: they did not, and where first. */
crnn_status crnn_replay_run(const crnn_replay *replay, const crnn_corpus *corpus, const crnn_train_options *options,
                            const crnn_train_hooks *hooks, int64_t *losses, crnn_error *err);

#ifdef __cplusplus
}
#endif
#endif
