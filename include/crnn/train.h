/* train.h - a run: epochs over a text, held-out evaluation, history, checkpoints, exact continuation.
 *
 * A program that handles signals must block them on every thread that calls this library: while oneDNN computes, a handler that runs on the same
 * thread can destroy the heap (uxlfoundation/oneDNN issue 4845). Wait for them on a thread of their own, as crnn-gpu does.
 */
#ifndef CRNN_TRAIN_H
#define CRNN_TRAIN_H

#include <crnn/batches.h>
#include <crnn/checkpoint.h>
#include <crnn/device.h>
#include <crnn/error.h>
#include <crnn/model.h>
#include <crnn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CRNN_LR_CONSTANT, CRNN_LR_COSINE, CRNN_LR_LINEAR } crnn_lr_schedule;

/* Every option of a run, resolved. Strings belong to the caller and live as long as the trainer. */
typedef struct {
    crnn_batching batching;
    int32_t B, T;
    int64_t shuffle_buffer;
    bool carry_epochs; /* keep the state over the end of an epoch */
    int32_t E, H, L;
    float dropout;
    const char *init;          /* safetensors file, or NULL */
    int64_t epochs, max_steps; /* whichever ends first; max_steps 0: no limit */
    float lr;
    crnn_lr_schedule lr_schedule;
    int64_t warmup;
    float clip, weight_decay;
    bool stop_if_worse; /* CRNN_ERR_DIVERGED after an epoch whose mean loss is above 3 times the best of the 5 before */
    uint64_t seed;
    int64_t checkpoint_every, checkpoint_steps; /* epochs (0: only at the end); steps (0: off) */
    int64_t keep;                               /* checkpoints that stay; 0: all */
    int64_t log_every;
    int64_t
        steps_at_once; /* steps between two questions of hooks.stop; 0: as many as 50 ms hold. Changes no bit of what is computed */
    crnn_device_config device;
    const char *options_json; /* what config.json and checkpoints record as the run's options; NULL: the fields above */
} crnn_train_options;
crnn_train_options crnn_train_options_default(void);

typedef struct {
    int64_t epoch, step; /* from 1 */
    double loss_last, loss_mean, accuracy, bpc;
    double val_loss, val_bpc; /* NAN where nothing is held out */
    double seconds, chars_per_second;
} crnn_epoch_report;

/* Where a run stands after a step, for a progress display. */
typedef struct {
    int64_t epoch, epochs, step, position, steps_per_epoch, total_steps; /* from 1; position within the epoch */
    double loss, chars_per_second, seconds_left;
    float lr, grad_norm;
} crnn_progress;

/* Called from the thread that trains. Any may be NULL. */
typedef struct {
    void *user;
    void (*note)(void *user, const char *sentence);
    void (*progress)(void *user, const crnn_progress *progress); /* of each step, once those made with it are done */
    void (*epoch)(void *user, const crnn_epoch_report *report);  /* after each epoch */
    void (*saved)(void *user, const char *path, int64_t step);   /* a checkpoint is safe */
    int (*stop)(
        void *user); /* asked after the steps that were made at once: 0 go on, 1 save and stop, 2 save now and go on */
} crnn_train_hooks;

typedef struct crnn_trainer crnn_trainer;

/* Begins a run in the new directory out (made; refused where it holds a run). The corpus is borrowed. config.json and a checkpoint at step 0 are safe
 * before it returns. Locks the directory (flock). */
crnn_trainer *crnn_trainer_new(const char *out, const crnn_corpus *corpus, const crnn_train_options *options,
                               const crnn_train_hooks *hooks, crnn_error *err);
/* Continues the run in directory run from ckpt (read by crnn_checkpoint_find; borrowed for the call only). */
crnn_trainer *crnn_trainer_resume(const char *run, const crnn_checkpoint *ckpt, const crnn_corpus *corpus,
                                  const crnn_train_options *options, const crnn_train_hooks *hooks, crnn_error *err);
void crnn_trainer_free(crnn_trainer *trainer);
/* Trains to the end. CRNN_OK at the end; CRNN_ERR_STOPPED after a stop, saved; CRNN_ERR_DIVERGED; others. */
crnn_status crnn_trainer_run(crnn_trainer *trainer, crnn_error *err);
bool crnn_trainer_done(const crnn_trainer *trainer); /* nothing left to do */
int64_t crnn_trainer_step(const crnn_trainer *trainer);
crnn_model *crnn_trainer_model(crnn_trainer *trainer); /* borrowed: to look at, or to sample from its weights */

#ifdef __cplusplus
}
#endif
#endif
