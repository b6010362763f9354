#include "host/train/saver.h"
#include "host/base/memory.h"
#include "host/train/rundir.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct crnn_saver {
    char *checkpoints, *path;
    size_t path_size;
    int64_t keep, back;
    const crnn_history *history;
    crnn_checkpoint *snapshot;
    crnn_save_result result;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum { IDLE, ASKED, DONE, QUIT } phase; /* under mutex; snapshot and result are the thread's while ASKED */
    pthread_t thread;
    bool running;
};

static void keep_note(void *user, const char *sentence)
{
    crnn_saver *saver = user;
    snprintf(saver->result.note, sizeof saver->result.note, "%s", sentence);
}

static void save(crnn_saver *saver)
{
    const crnn_checkpoint *ckpt = saver->snapshot;
    crnn_save_result *result = &saver->result;
    crnn_error err = {CRNN_OK, ""};
    char name[CRNN_CHECKPOINT_NAME];
    result->error[0] = result->note[0] = '\0';
    result->step = ckpt->step;
    result->best_step = ckpt->best_step;
    result->best_val_loss = ckpt->best_val_loss;
    result->path = saver->path;
    snprintf(saver->path, saver->path_size, "%s/%s", saver->checkpoints, crnn_checkpoint_name(name, ckpt->step));
    /* A continued run goes on with the history up to its checkpoint: so that must not be less durable. */
    if (crnn_history_sync(saver->history, &err) != CRNN_OK)
        keep_note(saver, err.text);
    result->status = crnn_checkpoint_write(ckpt, saver->checkpoints, name, keep_note, saver, &err);
    if (result->status != CRNN_OK)
        snprintf(result->error, sizeof result->error, "%s", err.text);
    else if (crnn_rundir_prune(saver->checkpoints, saver->keep, ckpt->step, ckpt->best_step, saver->back, &err) !=
             CRNN_OK)
        keep_note(saver, err.text);
}

static void *run(void *argument)
{
    crnn_saver *saver = argument;
    pthread_mutex_lock(&saver->mutex);
    while (saver->phase != QUIT) {
        if (saver->phase == ASKED) {
            pthread_mutex_unlock(&saver->mutex);
            save(saver);
            pthread_mutex_lock(&saver->mutex);
            saver->phase = DONE;
            pthread_cond_broadcast(&saver->changed);
        } else {
            pthread_cond_wait(&saver->changed, &saver->mutex);
        }
    }
    pthread_mutex_unlock(&saver->mutex);
    return NULL;
}

/* Signals are for the thread that trains: a handler that ran here could not interrupt it. */
static bool start_thread(crnn_saver *saver)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    saver->running = pthread_create(&saver->thread, NULL, run, saver) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return saver->running;
}

crnn_saver *crnn_saver_new(const char *checkpoints, int64_t keep, const crnn_model_sizes *sizes, int32_t B,
                           const crnn_history *history, crnn_error *err)
{
    crnn_saver *saver = crnn_alloc(1, sizeof *saver, "the saver", err);
    if (!saver)
        return NULL;
    pthread_mutex_init(&saver->mutex, NULL);
    pthread_cond_init(&saver->changed, NULL);
    saver->keep = keep;
    saver->history = history;
    saver->checkpoints = strdup(checkpoints);
    saver->path_size = strlen(checkpoints) + 1 + CRNN_CHECKPOINT_NAME;
    saver->path = crnn_alloc(saver->path_size, 1, "a path", err);
    if (!saver->checkpoints || !saver->path) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        goto fail;
    }
    saver->snapshot = crnn_checkpoint_new(sizes, B, true, err);
    if (!saver->snapshot)
        goto fail;
    if (!start_thread(saver)) {
        crnn_fail(err, CRNN_ERR_MEMORY, "cannot start a thread for the checkpoints");
        goto fail;
    }
    return saver;
fail:
    crnn_saver_free(saver);
    return NULL;
}

void crnn_saver_free(crnn_saver *saver)
{
    if (!saver)
        return;
    if (saver->running) {
        pthread_mutex_lock(&saver->mutex);
        while (saver->phase == ASKED)
            pthread_cond_wait(&saver->changed, &saver->mutex);
        saver->phase = QUIT;
        pthread_cond_broadcast(&saver->changed);
        pthread_mutex_unlock(&saver->mutex);
        pthread_join(saver->thread, NULL);
    }
    pthread_cond_destroy(&saver->changed);
    pthread_mutex_destroy(&saver->mutex);
    crnn_checkpoint_free(saver->snapshot);
    free(saver->checkpoints);
    free(saver->path);
    free(saver);
}

crnn_checkpoint *crnn_saver_snapshot(crnn_saver *saver)
{
    return saver->snapshot;
}

void crnn_saver_begin(crnn_saver *saver, int64_t back)
{
    pthread_mutex_lock(&saver->mutex);
    saver->back = back;
    saver->phase = ASKED;
    pthread_cond_broadcast(&saver->changed);
    pthread_mutex_unlock(&saver->mutex);
}

bool crnn_saver_take(crnn_saver *saver, bool wait, crnn_save_result *result)
{
    pthread_mutex_lock(&saver->mutex);
    while (wait && saver->phase == ASKED)
        pthread_cond_wait(&saver->changed, &saver->mutex);
    bool done = saver->phase == DONE;
    if (done) {
        *result = saver->result;
        saver->phase = IDLE;
    }
    pthread_mutex_unlock(&saver->mutex);
    return done;
}
