/* A run held against itself: each file by its own rules, and all of them against config.json and each other. */
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include "host/train/config.h"
#include "host/train/history.h"
#include "host/train/rundir.h"
#include <crnn/verify.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What later files are held against: the numbers of a sound checkpoint. */
typedef struct {
    int64_t step, count, returns, log_every, best_step;
    double loss_last;
} milestone;

typedef struct {
    const char *run;
    crnn_verified report;
    void *user;
    bool bad;
    json_t *config; /* NULL where it is not sound */
    int64_t steps_per_epoch;
    milestone *chain; /* of the sound checkpoints, oldest first */
    size_t count, room;
} audit;

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

static void tell(audit *a, const char *path, bool sound, const char *what)
{
    char shown[CRNN_SHOWN];
    a->bad = a->bad || !sound;
    if (a->report)
        a->report(a->user, crnn_shown(shown, path), sound, what);
}

/* What was wrong with the file at path, without the path where the sentence begins with it. */
static void tell_bad(audit *a, const char *path, const crnn_error *why)
{
    char shown[CRNN_SHOWN];
    size_t length = strlen(crnn_shown(shown, path));
    const char *what = why->text;
    if (strncmp(what, shown, length) == 0 && strncmp(what + length, ": ", 2) == 0)
        what += length + 2;
    tell(a, path, false, what);
}

/* --- config.json ------------------------------------------------------------------------------------------------------ */

static void verify_config(audit *a)
{
    crnn_error why = {0};
    char what[200], *path = crnn_format("%s/config.json", a->run);
    a->config = path ? crnn_config_read(a->run, &why) : NULL;
    if (a->config && crnn_config_steps(a->config, &a->steps_per_epoch, &why) != CRNN_OK) {
        json_decref(a->config);
        a->config = NULL;
    }
    if (a->config)
        snprintf(what, sizeof what, "%lld characters, %lld steps an epoch",
                 (long long)crnn_config_whole(a->config, "corpus", "characters"), (long long)a->steps_per_epoch);
    if (a->config)
        tell(a, path, true, what);
    else
        tell_bad(a, path ? path : a->run, &why);
    free(path);
}

/* --- one checkpoint --------------------------------------------------------------------------------------------------- */

static crnn_status check_by_config(const audit *a, const crnn_checkpoint *c, crnn_error *err)
{
    const json_t *config = a->config;
    char hex[65];
    if (!config)
        return CRNN_OK;
    crnn_sha256_hex(hex, c->corpus_sha256);
    if (c->sizes.V != crnn_config_whole(config, "model", "vocab") ||
        c->sizes.E != crnn_config_whole(config, "model", "embedding") ||
        c->sizes.H != crnn_config_whole(config, "model", "units") ||
        c->sizes.L != crnn_config_whole(config, "model", "layers") ||
        c->B != crnn_config_whole(config, "options", "batch"))
        return BAD("it is of another model than config.json: V %d, E %d, H %d, L %d, B %d", (int)c->sizes.V,
                   (int)c->sizes.E, (int)c->sizes.H, (int)c->sizes.L, (int)c->B);
    if (c->corpus_characters != crnn_config_whole(config, "corpus", "characters") ||
        strcmp(hex, json_string_value(json_object_get(json_object_get(config, "corpus"), "sha256"))) != 0)
        return BAD("it is of another text than config.json, of %lld characters", (long long)c->corpus_characters);
    if (c->seed != (uint64_t)crnn_config_whole(config, "options", "seed"))
        return BAD("it has the seed %llu, not that of config.json", (unsigned long long)c->seed);
    if (c->position > a->steps_per_epoch || c->step != c->epoch * a->steps_per_epoch + c->position)
        return BAD("step %lld is not step %lld of epoch %lld, where an epoch has %lld", (long long)c->step,
                   (long long)c->position, (long long)c->epoch + 1, (long long)a->steps_per_epoch);
    return CRNN_OK;
}

static crnn_status check_by_chain(const audit *a, const crnn_checkpoint *c, int64_t named, crnn_error *err)
{
    const milestone *before = a->count ? &a->chain[a->count - 1] : NULL;
    if (c->step != named)
        return BAD("it holds step %lld, not the one that it is named for", (long long)c->step);
    if (!c->m || !c->state)
        return BAD("it holds weights alone: a run cannot go on from it");
    if (c->best_step > c->step || (c->best_step >= 0) != (bool)isfinite(c->best_val_loss))
        return BAD("its best checkpoint, step %lld, cannot be", (long long)c->best_step);
    if (!before)
        return CRNN_OK;
    if (c->returns < before->returns)
        return BAD("%lld returns to earlier weights, after %lld at step %lld", (long long)c->returns,
                   (long long)before->returns, (long long)before->step);
    if (c->returns == before->returns &&
        (c->count < before->count || c->count - before->count > c->step - before->step))
        return BAD("%lld updates of Adam at step %lld, but %lld at step %lld", (long long)c->count, (long long)c->step,
                   (long long)before->count, (long long)before->step);
    return CRNN_OK;
}

static crnn_status keep_milestone(audit *a, const crnn_checkpoint *c, crnn_error *err)
{
    if (a->count == a->room) {
        size_t room = a->room ? 2 * a->room : 64;
        milestone *chain = realloc(a->chain, room * sizeof *chain);
        if (!chain)
            return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a list of checkpoints");
        a->chain = chain;
        a->room = room;
    }
    json_t *options = json_loads(c->options, 0, NULL); /* the checkpoint's reader has seen that it is an object */
    const json_t *every = json_object_get(options, "log-every");
    a->chain[a->count++] =
        (milestone){c->step,      c->count,    c->returns, json_is_integer(every) ? json_integer_value(every) : 0,
                    c->best_step, c->loss_last};
    json_decref(options);
    return options ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the options of a run");
}

static void describe(char out[200], const crnn_checkpoint *c)
{
    snprintf(out, 200, "step %lld, %lld parameters%s", (long long)c->step, (long long)crnn_model_parameters(&c->sizes),
             c->m ? "" : ", weights alone");
}

static crnn_status verify_checkpoint(audit *a, int64_t step, crnn_error *err)
{
    crnn_error why = {0};
    char what[200], name[CRNN_CHECKPOINT_NAME];
    char *path = crnn_format("%s/checkpoints/%s", a->run, crnn_checkpoint_name(name, step));
    if (!path)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    crnn_checkpoint *c = crnn_checkpoint_read(path, &why);
    struct stat info;
    bool gone = !c && stat(path, &info) != 0 && errno == ENOENT; /* removed meanwhile by a run that goes on */
    crnn_status status = CRNN_OK;
    if (c) {
        status = check_by_chain(a, c, step, &why);
        if (status == CRNN_OK)
            status = check_by_config(a, c, &why);
        if (status == CRNN_OK)
            status = keep_milestone(a, c, &why);
        describe(what, c);
    }
    if (c && status == CRNN_OK)
        tell(a, path, true, what);
    else if (!gone && why.status != CRNN_ERR_MEMORY)
        tell_bad(a, path, &why);
    crnn_checkpoint_free(c);
    free(path);
    return why.status == CRNN_ERR_MEMORY ? crnn_fail(err, CRNN_ERR_MEMORY, "%s", why.text) : CRNN_OK;
}

/* --- history.jsonl ---------------------------------------------------------------------------------------------------- */

/* What is seen while the lines go by. */
typedef struct {
    int64_t number;  /* of the line, from 1 */
    int64_t covered; /* the last step that a line tells of */
    double loss;     /* of that step; NAN where it was skipped */
    size_t next;     /* the next milestone */
    bool torn;
} reading;

/* The losses that checkpoints hold, and no step between two of them without a line. line: NULL at the end of all. */
static crnn_status check_milestones(const audit *a, reading *r, const crnn_history_line *line, crnn_error *err)
{
    for (; r->next < a->count && (!line || line->step > a->chain[r->next].step); r->next++) {
        const milestone *at = &a->chain[r->next];
        int64_t every = at->log_every, last = every > 0 ? at->step - at->step % every : 0;
        if (r->covered < last)
            return BAD("it has no line for step %lld, which a checkpoint was written after", (long long)last);
        if (r->covered == at->step && at->step > 0 && !isnan(r->loss) && r->loss != at->loss_last)
            return BAD("line %lld: the loss of step %lld is not %.17g, as its checkpoint holds",
                       (long long)r->number - (line ? 1 : 0), (long long)at->step, at->loss_last);
    }
    return CRNN_OK;
}

/* The step after the last one that has a line, where lines are written every `every` steps. */
static crnn_status check_gap(const audit *a, const reading *r, const crnn_history_line *line, crnn_error *err)
{
    if (r->next == 0 || r->next >= a->count || a->chain[r->next - 1].log_every != a->chain[r->next].log_every)
        return CRNN_OK; /* not between two checkpoints of one way to log */
    int64_t every = a->chain[r->next].log_every, from = r->covered;
    if (from < a->chain[r->next - 1].step)
        from = a->chain[r->next - 1].step;
    int64_t expected = every > 0 ? from - from % every + every : line->step;
    if (line->step > expected)
        return BAD("line %lld: no line for step %lld before that for step %lld", (long long)r->number,
                   (long long)expected, (long long)line->step);
    return CRNN_OK;
}

static crnn_status check_line(const audit *a, reading *r, const char *text, size_t length, crnn_error *err)
{
    crnn_history_line line;
    if (!crnn_history_parse(&line, text, length))
        return BAD("line %lld is no event of a run", (long long)r->number);
    if (line.event == CRNN_LINE_OTHER || line.event == CRNN_LINE_EPOCH)
        return line.step >= r->covered ? CRNN_OK
                                       : BAD("line %lld tells of step %lld after step %lld", (long long)r->number,
                                             (long long)line.step, (long long)r->covered);
    if (line.event == CRNN_LINE_RETURN)
        return line.step == r->covered && line.to_step >= 0 && line.to_step <= line.step
                   ? CRNN_OK
                   : BAD("line %lld: a return from step %lld to step %lld cannot be", (long long)r->number,
                         (long long)line.step, (long long)line.to_step);
    if (line.step <= r->covered)
        return BAD("line %lld tells of step %lld after step %lld", (long long)r->number, (long long)line.step,
                   (long long)r->covered);
    if (a->config && line.epoch != (line.step - 1) / a->steps_per_epoch + 1)
        return BAD("line %lld: step %lld is not in epoch %lld", (long long)r->number, (long long)line.step,
                   (long long)line.epoch);
    if (line.event == CRNN_LINE_STEP && !isfinite(line.loss))
        return BAD("line %lld: step %lld has no finite loss", (long long)r->number, (long long)line.step);
    crnn_status status = check_milestones(a, r, &line, err);
    if (status == CRNN_OK)
        status = check_gap(a, r, &line, err);
    r->covered = line.step;
    r->loss = line.event == CRNN_LINE_STEP ? line.loss : (double)NAN;
    return status;
}

static crnn_status check_history(const audit *a, reading *r, const char *text, size_t size, crnn_error *err)
{
    const char *line = text, *end;
    for (; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        r->number++;
        crnn_status status = check_line(a, r, line, (size_t)(end - line), err);
        if (status != CRNN_OK)
            return status;
    }
    r->torn = line < text + size;
    return check_milestones(a, r, NULL, err);
}

static void verify_history(audit *a)
{
    crnn_error why = {0};
    reading r = {.loss = (double)NAN};
    char what[200], *path = crnn_format("%s/history.jsonl", a->run), *text = NULL;
    size_t size;
    text = path ? crnn_read_file(path, (int64_t)1 << 36, &size, &why) : NULL;
    if (text && check_history(a, &r, text, size, &why) == CRNN_OK) {
        snprintf(what, sizeof what, "%lld lines, up to step %lld%s", (long long)r.number, (long long)r.covered,
                 r.torn ? "; the last line was cut off, as a crash does, and will go when the run goes on" : "");
        tell(a, path, true, what);
    } else {
        tell_bad(a, path ? path : a->run, &why);
    }
    free(text);
    free(path);
}

/* --- the whole -------------------------------------------------------------------------------------------------------- */

/* The best checkpoint of the newest one's account is never removed. */
static void verify_best(audit *a, const char *checkpoints)
{
    int64_t best = a->count ? a->chain[a->count - 1].best_step : -1;
    char what[200];
    if (best < 0 || crnn_rundir_oldest(checkpoints, best - 1) == best)
        return;
    snprintf(what, sizeof what, "the best checkpoint on held-out text, step %lld, is not there", (long long)best);
    tell(a, checkpoints, false, what);
}

static crnn_status verify_run(audit *a, crnn_error *err)
{
    char shown[CRNN_SHOWN], *checkpoints = crnn_format("%s/checkpoints", a->run);
    crnn_status status = CRNN_OK;
    if (!checkpoints)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    int64_t step = crnn_rundir_oldest(checkpoints, -1);
    if (step < 0) {
        free(checkpoints);
        return crnn_fail(err, CRNN_ERR_IO, "%s is no run: it has no checkpoints/ckpt-*.safetensors",
                         crnn_shown(shown, a->run));
    }
    verify_config(a);
    for (; step >= 0 && status == CRNN_OK; step = crnn_rundir_oldest(checkpoints, step))
        status = verify_checkpoint(a, step, err);
    verify_best(a, checkpoints);
    if (status == CRNN_OK)
        verify_history(a);
    free(checkpoints);
    return status;
}

static void verify_file(audit *a, const char *path)
{
    crnn_error why = {0};
    char what[200];
    crnn_checkpoint *c = crnn_checkpoint_read(path, &why);
    if (c) {
        describe(what, c);
        tell(a, path, true, what);
    } else {
        tell_bad(a, path, &why);
    }
    crnn_checkpoint_free(c);
}

crnn_status crnn_verify(const char *run_or_file, crnn_verified report, void *user, crnn_error *err)
{
    audit a = {.run = run_or_file, .report = report, .user = user};
    char shown[CRNN_SHOWN];
    struct stat info;
    crnn_status status = CRNN_OK;
    if (stat(run_or_file, &info) != 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot open the run or checkpoint %s: %s", crnn_shown(shown, run_or_file),
                         strerror(errno));
    if (S_ISDIR(info.st_mode))
        status = verify_run(&a, err);
    else
        verify_file(&a, run_or_file);
    json_decref(a.config);
    free(a.chain);
    if (status == CRNN_OK && a.bad)
        status = crnn_fail(err, CRNN_ERR_FORMAT, "%s is not sound", crnn_shown(shown, run_or_file));
    return status;
}
