/* A stretch of a run trained again, and its bits held against those that the run recorded. */
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/train/config.h"
#include "host/train/trainer.h"
#include <crnn/verify.h>
#include <errno.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *checkpoint_path(const char *run, int64_t step)
{
    char name[CRNN_CHECKPOINT_NAME];
    return crnn_format("%s/checkpoints/%s", run, crnn_checkpoint_name(name, step));
}

/* --- history ---------------------------------------------------------------------------------------------------------- */

/* A run's history, line by line. */
typedef struct {
    char *text;
    size_t size, at;
    const char *line; /* the present one, without its end */
    size_t length;
    crnn_history_line facts;
} tale;

static crnn_status tale_open(tale *t, const char *run, crnn_error *err)
{
    char *path = crnn_format("%s/history.jsonl", run);
    *t = (tale){0};
    if (!path)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    t->text = crnn_read_file(path, (int64_t)1 << 36, &t->size, err);
    free(path);
    return t->text ? CRNN_OK : CRNN_ERR_IO;
}

/* The next line that tells what became of a step in (after, last]; false where there is none. */
static bool tale_next(tale *t, int64_t after, int64_t last)
{
    for (const char *end; (end = memchr(t->text + t->at, '\n', t->size - t->at));) {
        t->line = t->text + t->at;
        t->length = (size_t)(end - t->line);
        t->at += t->length + 1;
        if (crnn_history_parse(&t->facts, t->line, t->length) && t->facts.step > after && t->facts.step <= last &&
            t->facts.event != CRNN_LINE_EPOCH && t->facts.event != CRNN_LINE_OTHER)
            return true;
    }
    return false;
}

/* The last step <= limit that the run's history tells of; 0 where there is none. */
static int64_t last_recorded(const char *run, int64_t limit)
{
    tale t;
    int64_t last = 0;
    if (tale_open(&t, run, NULL) == CRNN_OK)
        while (tale_next(&t, 0, limit))
            last = t.facts.step;
    free(t.text);
    return last;
}

/* --- which stretch ---------------------------------------------------------------------------------------------------- */

/* The newest two checkpoints that are at most `steps` steps apart, as far apart as that allows; false where there are none. */
static bool nearest_pair(const char *checkpoints, int64_t steps, int64_t *from, int64_t *to)
{
    for (*to = crnn_rundir_newest(checkpoints, INT64_MAX); *to >= 0; *to = crnn_rundir_newest(checkpoints, *to - 1)) {
        *from = crnn_rundir_oldest(checkpoints, *to - steps - 1);
        if (*from >= 0 && *from < *to)
            return true;
    }
    *from = -1;
    return false;
}

static bool choose(crnn_replay *r, int64_t steps, int64_t *from, int64_t *to)
{
    char *checkpoints = crnn_format("%s/checkpoints", r->run);
    bool found = false;
    *to = -1;
    if (*from < 0 && checkpoints)
        found = nearest_pair(checkpoints, steps, from, to);
    else if (checkpoints)
        *to = crnn_rundir_newest(checkpoints, *from + steps);
    if (found || *to > *from) {
        r->last = *to;
        free(checkpoints);
        return true;
    }
    *to = -1;
    if (*from < 0) { /* the newest that something is recorded after */
        int64_t end = last_recorded(r->run, INT64_MAX);
        *from = checkpoints && end > 0 ? crnn_rundir_newest(checkpoints, end - 1) : -1;
    }
    free(checkpoints);
    if (*from < 0)
        return false;
    r->last = last_recorded(r->run, *from + steps);
    return r->last > *from;
}

/* Where the run's options and its device stand. */
static crnn_status read_options(crnn_replay *r, crnn_error *err)
{
    crnn_error why;
    json_t *config = crnn_config_read(r->run, &why);
    const json_t *device = json_object_get(config, "device");
    if (config) {
        r->kind = strcmp(json_string_value(json_object_get(device, "kind")), "cuda") == 0 ? CRNN_DEVICE_CUDA
                                                                                          : CRNN_DEVICE_CPU;
        r->threads = (int32_t)crnn_config_whole(config, "device", "threads");
        snprintf(r->device, sizeof r->device, "%s", json_string_value(json_object_get(device, "name")));
        snprintf(r->versions, sizeof r->versions, "%s", json_string_value(json_object_get(device, "versions")));
    }
    /* A checkpoint holds the options that it was reached by; after the newest one, those of config.json hold. */
    if (r->to)
        r->options = strdup(r->to->options);
    else
        r->options = config ? json_dumps(json_object_get(config, "options"), JSON_COMPACT) : strdup(r->from->options);
    json_decref(config);
    return r->options ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the options");
}

/* The directory that holds the run, and the step of the checkpoint that was named; -1 where the run itself was. */
static crnn_status find_run(crnn_replay *r, const char *run_or_file, int64_t *step, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    struct stat info;
    *step = -1;
    if (stat(run_or_file, &info) != 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot open the run or checkpoint %s: %s", crnn_shown(shown, run_or_file),
                         strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        r->run = strdup(run_or_file);
    } else {
        char *path = strdup(run_or_file);
        const char *slash = strrchr(run_or_file, '/');
        *step = crnn_checkpoint_step(slash ? slash + 1 : run_or_file);
        r->run = path ? crnn_format("%s/..", dirname(path)) : NULL;
        free(path);
        if (*step < 0)
            return crnn_fail(err, CRNN_ERR_FORMAT, "%s is no checkpoint of a run: what comes after it is not recorded",
                             crnn_shown(shown, run_or_file));
    }
    return r->run ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
}

crnn_replay *crnn_replay_plan(const char *run_or_file, int64_t steps, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    int64_t from, to;
    crnn_replay *r = crnn_alloc(1, sizeof *r, "a replay", err);
    if (!r || find_run(r, run_or_file, &from, err) != CRNN_OK)
        goto fail;
    if (!choose(r, steps, &from, &to)) {
        crnn_fail(err, CRNN_ERR_FORMAT, "%s: nothing is recorded of the %lld steps after a checkpoint of it",
                  crnn_shown(shown, run_or_file), (long long)steps);
        goto fail;
    }
    r->from_path = checkpoint_path(r->run, from);
    r->from = r->from_path ? crnn_checkpoint_read(r->from_path, err) : NULL;
    if (r->from && to >= 0) {
        char *path = checkpoint_path(r->run, to);
        r->to = path ? crnn_checkpoint_read(path, err) : NULL;
        free(path);
    }
    if (!r->from || (to >= 0 && !r->to) || read_options(r, err) != CRNN_OK)
        goto fail;
    return r;
fail:
    crnn_replay_free(r);
    return NULL;
}

void crnn_replay_free(crnn_replay *replay)
{
    if (!replay)
        return;
    free(replay->run);
    free(replay->from_path);
    free(replay->options);
    crnn_checkpoint_free(replay->from);
    crnn_checkpoint_free(replay->to);
    free(replay);
}

/* --- training again --------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    remove(path);
    return 0;
}

/* A copy of what the stretch needs of the run: the history up to its begin, and checkpoints that it goes back to. */
static crnn_status copy_run(const crnn_replay *r, const char *directory, crnn_error *err)
{
    tale t;
    crnn_status status = tale_open(&t, r->run, err);
    char *checkpoints = crnn_format("%s/checkpoints", directory);
    if (!checkpoints)
        status = crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    if (status == CRNN_OK)
        status = crnn_write_file_durably(directory, "history.jsonl", t.text, t.size, err); /* the trainer cuts it */
    if (status == CRNN_OK)
        status = crnn_make_directories(checkpoints, err);
    while (status == CRNN_OK && tale_next(&t, r->from->step, r->last)) {
        char name[CRNN_CHECKPOINT_NAME];
        if (t.facts.event != CRNN_LINE_RETURN || t.facts.to_step > r->from->step)
            continue;
        char *path = checkpoint_path(r->run, t.facts.to_step);
        crnn_checkpoint *back = path ? crnn_checkpoint_read(path, err) : NULL;
        status = back ? crnn_checkpoint_write(back, checkpoints, crnn_checkpoint_name(name, t.facts.to_step), NULL,
                                              NULL, err)
                      : CRNN_ERR_FORMAT;
        crnn_checkpoint_free(back);
        free(path);
    }
    free(checkpoints);
    free(t.text);
    return status;
}

typedef struct {
    const crnn_train_hooks *hooks;
    const crnn_trainer *trainer;
    int64_t last;
    bool stopped; /* from outside */
} stretch;

static void on_note(void *user, const char *sentence)
{
    const stretch *s = user;
    if (s->hooks && s->hooks->note)
        s->hooks->note(s->hooks->user, sentence);
}

static void on_progress(void *user, const crnn_progress *progress)
{
    const stretch *s = user;
    if (s->hooks && s->hooks->progress)
        s->hooks->progress(s->hooks->user, progress);
}

/* Not before the report on an epoch that ends with the last step: it belongs to what a checkpoint there holds. */
static int at_the_end(void *user)
{
    stretch *s = user;
    s->stopped = s->stopped || (s->hooks && s->hooks->stop && s->hooks->stop(s->hooks->user) == 1);
    return s->stopped || (s->trainer->step >= s->last && !s->trainer->report_due);
}

static crnn_status train_again(const crnn_replay *r, const char *directory, const crnn_corpus *corpus,
                               const crnn_train_options *options, const crnn_train_hooks *hooks, crnn_error *err)
{
    stretch s = {hooks, NULL, r->last, false};
    crnn_train_hooks own = {.user = &s, .note = on_note, .progress = on_progress, .stop = at_the_end};
    crnn_train_options how = *options;
    how.log_every = 1;
    how.steps_at_once = 1; /* to end where the stretch does */
    crnn_trainer *t = crnn_trainer_resume(directory, r->from, corpus, &how, &own, err);
    if (!t)
        return err->status;
    s.trainer = t;
    crnn_status status = crnn_trainer_done(t) ? CRNN_OK : crnn_trainer_run(t, err);
    int64_t step = crnn_trainer_step(t);
    bool there = step == r->last;
    crnn_trainer_free(t);
    if (s.stopped && !there)
        return crnn_fail(err, CRNN_ERR_STOPPED, "stopped at step %lld, before step %lld was reached", (long long)step,
                         (long long)r->last);
    if (status == CRNN_ERR_STOPPED || (status == CRNN_ERR_DIVERGED && there)) /* the latter as the run itself did */
        status = CRNN_OK;
    if (status == CRNN_OK && !there)
        status = crnn_fail(err, CRNN_ERR_FORMAT, "by its options the run ends before step %lld", (long long)r->last);
    return status;
}

/* --- comparing -------------------------------------------------------------------------------------------------------- */

/* Lines hold numbers that read back to the same bits, so that equal lines mean equal bits. */
static crnn_status compare_history(const crnn_replay *r, const char *directory, int64_t *lines, crnn_error *err)
{
    tale recorded, again = {0};
    crnn_status status = tale_open(&recorded, r->run, err);
    if (status == CRNN_OK)
        status = tale_open(&again, directory, err);
    while (status == CRNN_OK && tale_next(&recorded, r->from->step, r->last)) {
        bool found = false;
        while (!found && tale_next(&again, r->from->step, recorded.facts.step))
            found = again.facts.step == recorded.facts.step && again.facts.event == recorded.facts.event;
        if (!found || again.length != recorded.length || memcmp(again.line, recorded.line, again.length) != 0)
            status = crnn_fail(err, CRNN_ERR_FORMAT, "step %lld came out differently: recorded %.120s, now %.120s",
                               (long long)recorded.facts.step, recorded.line, found ? again.line : "nothing like it");
        ++*lines;
    }
    free(recorded.text);
    free(again.text);
    return status;
}

static crnn_status compare_checkpoints(const crnn_checkpoint *a, const crnn_checkpoint *b, crnn_error *err)
{
    size_t parameters = (size_t)crnn_model_parameters(&a->sizes) * sizeof(float);
    size_t state = (size_t)a->sizes.L * (size_t)a->B * (size_t)a->sizes.H * sizeof(float);
    const char *what = NULL;
    if (memcmp(a->weights, b->weights, parameters) != 0)
        what = "weights";
    else if (memcmp(a->m, b->m, parameters) != 0 || memcmp(a->v, b->v, parameters) != 0)
        what = "moments of Adam";
    else if (memcmp(a->state, b->state, state) != 0)
        what = "hidden state";
    else if (a->count != b->count || a->epoch != b->epoch || a->position != b->position || a->returns != b->returns ||
             a->rate_factor != b->rate_factor || a->loss_last != b->loss_last ||
             a->epoch_loss_sum != b->epoch_loss_sum || a->epoch_positions != b->epoch_positions ||
             a->epoch_hits != b->epoch_hits)
        what = "counters";
    if (!what)
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_FORMAT, "the %s at step %lld came out differently from those of its checkpoint",
                     what, (long long)a->step);
}

static crnn_status compare_end(const crnn_replay *r, const char *directory, crnn_error *err)
{
    char *path = checkpoint_path(directory, r->last);
    crnn_checkpoint *again = path ? crnn_checkpoint_read(path, err) : NULL;
    crnn_status status = again ? compare_checkpoints(r->to, again, err) : CRNN_ERR_FORMAT;
    crnn_checkpoint_free(again);
    free(path);
    return status;
}

crnn_status crnn_replay_run(const crnn_replay *replay, const crnn_corpus *corpus, const crnn_train_options *options,
                            const crnn_train_hooks *hooks, int64_t *losses, crnn_error *err)
{
    const char *base = getenv("TMPDIR");
    int64_t own_losses = 0;
    crnn_error own;
    err = err ? err : &own;
    losses = losses ? losses : &own_losses;
    *losses = 0;
    char *directory = crnn_format("%s/crnn-replay-XXXXXX", base && *base ? base : "/tmp");
    if (!directory)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    if (!mkdtemp(directory)) {
        char shown[CRNN_SHOWN];
        crnn_status status = crnn_fail(err, CRNN_ERR_IO, "cannot make the directory %s: %s; TMPDIR names another place",
                                       crnn_shown(shown, directory), strerror(errno));
        free(directory);
        return status;
    }
    crnn_status status = copy_run(replay, directory, err);
    if (status == CRNN_OK)
        status = train_again(replay, directory, corpus, options, hooks, err);
    if (status == CRNN_OK)
        status = compare_history(replay, directory, losses, err);
    if (status == CRNN_OK && replay->to)
        status = compare_end(replay, directory, err);
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(directory);
    return status;
}
