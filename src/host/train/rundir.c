#include "host/train/rundir.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include <crnn/crnn.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- names ---------------------------------------------------------------------------------------------------------- */

char *crnn_checkpoint_name(char out[CRNN_CHECKPOINT_NAME], int64_t step)
{
    snprintf(out, CRNN_CHECKPOINT_NAME, "ckpt-%010lld.safetensors", (long long)step);
    return out;
}

int64_t crnn_checkpoint_step(const char *name)
{
    int64_t step = 0;
    if (strncmp(name, "ckpt-", 5) != 0)
        return -1;
    for (int i = 5; i < 15; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        step = step * 10 + (name[i] - '0');
    }
    return strcmp(name + 15, ".safetensors") == 0 ? step : -1;
}

static crnn_status fail_at(crnn_error *err, const char *what, const char *path)
{
    int number = errno;
    char shown[CRNN_SHOWN];
    return crnn_fail(err, number == ENOMEM ? CRNN_ERR_MEMORY : CRNN_ERR_IO, "cannot %s %s: %s", what,
                     crnn_shown(shown, path), strerror(number));
}

/* --- walking over a directory --------------------------------------------------------------------------------------- */

/* Called for each regular file; returns whether it shall be removed. */
typedef bool (*visitor)(void *user, const char *name);

static crnn_status walk(const char *path, visitor visit, void *user, crnn_error *err)
{
    struct dirent *entry;
    struct stat info;
    crnn_status status = CRNN_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_at(err, "open the directory", path);
    DIR *listing = fdopendir(fd);
    if (!listing) {
        status = fail_at(err, "list the directory", path);
        close(fd);
        return status;
    }
    while (errno = 0, (entry = readdir(listing))) {
        if (fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
            continue;
        if (visit(user, entry->d_name) && unlinkat(fd, entry->d_name, 0) != 0 && errno != ENOENT && status == CRNN_OK)
            status = fail_at(err, "remove a file in", path);
    }
    if (errno != 0 && status == CRNN_OK)
        status = fail_at(err, "list the directory", path);
    closedir(listing);
    return status;
}

typedef struct {
    int64_t above, limit, least, greatest;
} range;

static bool see(void *user, const char *name)
{
    range *seen = user;
    int64_t step = crnn_checkpoint_step(name);
    if (step < 0 || step <= seen->above || step > seen->limit)
        return false;
    seen->least = seen->least < 0 || step < seen->least ? step : seen->least;
    seen->greatest = step > seen->greatest ? step : seen->greatest;
    return false;
}

int64_t crnn_rundir_newest(const char *checkpoints, int64_t limit)
{
    range seen = {-1, limit, -1, -1};
    walk(checkpoints, see, &seen, NULL);
    return seen.greatest;
}

int64_t crnn_rundir_oldest(const char *checkpoints, int64_t above)
{
    range seen = {above, INT64_MAX, -1, -1};
    walk(checkpoints, see, &seen, NULL);
    return seen.least;
}

/* Steps of the checkpoints up to `limit`. */
typedef struct {
    int64_t limit, *steps;
    size_t count, room;
    bool out_of_memory;
} step_list;

static bool list_step(void *user, const char *name)
{
    step_list *list = user;
    int64_t step = crnn_checkpoint_step(name);
    if (step < 0 || step > list->limit || list->out_of_memory)
        return false;
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        int64_t *steps = realloc(list->steps, room * sizeof *steps);
        if (!steps) {
            list->out_of_memory = true;
            return false;
        }
        list->steps = steps;
        list->room = room;
    }
    list->steps[list->count++] = step;
    return false;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

typedef struct {
    int64_t before, spared[3];
} doomed;

static bool is_doomed(void *user, const char *name)
{
    const doomed *rule = user;
    int64_t step = crnn_checkpoint_step(name);
    return step >= 0 && step < rule->before && step != rule->spared[0] && step != rule->spared[1] &&
           step != rule->spared[2];
}

crnn_status crnn_rundir_prune(const char *checkpoints, int64_t keep, int64_t newest, int64_t best, int64_t back,
                              crnn_error *err)
{
    step_list list = {newest, NULL, 0, 0, false};
    if (keep <= 0)
        return CRNN_OK;
    crnn_status status = walk(checkpoints, list_step, &list, err);
    if (status == CRNN_OK && list.out_of_memory)
        status = crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a list of checkpoints");
    if (status == CRNN_OK && list.count > (uint64_t)keep) {
        qsort(list.steps, list.count, sizeof *list.steps, newest_first);
        doomed rule = {list.steps[keep - 1], {best, back > 0 ? list.steps[list.count - 1] : -1, -1}};
        for (size_t i = list.count; back > 0 && i > 0 && list.steps[i - 1] <= newest - back; i--) {
            rule.spared[1] = list.steps[i - 1];
            rule.spared[2] = i > 1 ? list.steps[i - 2] : -1;
        }
        status = walk(checkpoints, is_doomed, &rule, err);
    }
    free(list.steps);
    return status;
}

/* --- lock ----------------------------------------------------------------------------------------------------------- */

static bool is_temporary(void *user, const char *name)
{
    (void)user;
    return strncmp(name, ".tmp-", 5) == 0;
}

static crnn_status lock(crnn_rundir *dir, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_at(err, "open the run", dir->path);
    dir->lock = openat(fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    int number = errno;
    close(fd);
    errno = number;
    if (dir->lock < 0)
        return fail_at(err, "make a lock in", dir->path);
    while (flock(dir->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR)
            continue;
        if (errno == EWOULDBLOCK)
            return crnn_fail(err, CRNN_ERR_IO,
                             "another program is training in %s: wait for it, or choose another --out",
                             crnn_shown(shown, dir->path));
        return fail_at(err, "lock", dir->path);
    }
    return CRNN_OK;
}

static crnn_status refuse_run(const crnn_rundir *dir, crnn_error *err)
{
    /* An empty history may be there: a crash before the first checkpoint leaves it. */
    static const char *const marks[] = {"config.json", "history.jsonl"};
    char shown[CRNN_SHOWN];
    struct stat info;
    bool found = crnn_rundir_newest(dir->checkpoints, INT64_MAX) >= 0;
    for (size_t i = 0; i < sizeof marks / sizeof *marks && !found; i++) {
        char *path = crnn_format("%s/%s", dir->path, marks[i]);
        if (!path)
            return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        found = lstat(path, &info) == 0 && (info.st_size > 0 || !S_ISREG(info.st_mode));
        free(path);
    }
    if (found)
        return crnn_fail(err, CRNN_ERR_ARGUMENT,
                         "%s holds a run already: continue it with --resume, or choose another directory",
                         crnn_shown(shown, dir->path));
    return CRNN_OK;
}

crnn_status crnn_rundir_open(crnn_rundir *dir, const char *path, bool fresh, crnn_error *err)
{
    crnn_status status;
    dir->lock = -1;
    dir->path = strdup(path);
    dir->checkpoints = crnn_format("%s/checkpoints", path);
    if (!dir->path || !dir->checkpoints)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    if (fresh && (status = crnn_make_directories(path, err)) != CRNN_OK)
        return status;
    if ((status = lock(dir, err)) != CRNN_OK)
        return status;
    if (fresh && (status = refuse_run(dir, err)) != CRNN_OK)
        return status;
    if ((status = crnn_make_directories(dir->checkpoints, err)) != CRNN_OK)
        return status;
    if ((status = walk(dir->path, is_temporary, NULL, err)) != CRNN_OK)
        return status;
    return walk(dir->checkpoints, is_temporary, NULL, err);
}

void crnn_rundir_close(crnn_rundir *dir)
{
    if (dir->lock >= 0)
        close(dir->lock); /* the file stays: removing it would let two lock different files of the same name */
    free(dir->path);
    free(dir->checkpoints);
    *dir = (crnn_rundir){NULL, NULL, -1};
}

/* --- config.json ---------------------------------------------------------------------------------------------------- */

char *crnn_options_json(const crnn_train_options *o, crnn_error *err)
{
    static const char *const precisions[] = {"fp32", "tf32", "bf16"};
    static const char *const devices[] = {"auto", "cuda", "cpu"};
    static const char *const schedules[] = {"constant", "cosine", "linear"};
    json_t *object = json_pack(
        "{s:s, s:i, s:i, s:I, s:b, s:i, s:i, s:i, s:f, s:s?, s:I, s:I, s:f, s:s, s:I, s:f, s:f, s:b, s:I, s:I, s:I, "
        "s:I, s:I, s:s, s:s, s:i, s:s}",
        "batching", o->batching == CRNN_STREAMS ? "streams" : "windows", "batch", (int)o->B, "length", (int)o->T,
        "shuffle-buffer", (json_int_t)o->shuffle_buffer, "carry-epochs", (int)o->carry_epochs, "embedding", (int)o->E,
        "units", (int)o->H, "layers", (int)o->L, "dropout", (double)o->dropout, "init", o->init, "epochs",
        (json_int_t)o->epochs, "max-steps", (json_int_t)o->max_steps, "lr", (double)o->lr, "lr-schedule",
        schedules[o->lr_schedule], "warmup", (json_int_t)o->warmup, "clip", (double)o->clip, "weight-decay",
        (double)o->weight_decay, "stop-if-worse", (int)o->stop_if_worse, "seed", (json_int_t)o->seed,
        "checkpoint-every", (json_int_t)o->checkpoint_every, "checkpoint-steps", (json_int_t)o->checkpoint_steps,
        "keep", (json_int_t)o->keep, "log-every", (json_int_t)o->log_every, "device", devices[o->device.kind],
        "precision", precisions[o->device.precision], "threads", (int)o->device.threads, "rnn-algo",
        o->device.rnn_algo ? o->device.rnn_algo : "auto");
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the options");
    return text;
}

char *crnn_options_settled(const char *options, const char *rnn_algo, crnn_error *err)
{
    json_error_t wrong;
    json_t *object = json_loads(options, 0, &wrong);
    if (!object) {
        crnn_fail(err, CRNN_ERR_ARGUMENT, "the options of the run are no JSON: %s", wrong.text);
        return NULL;
    }
    char *text = json_object_set_new(object, "rnn-algo", json_string(rnn_algo)) == 0
                     ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17))
                     : NULL;
    json_decref(object);
    if (!text)
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the options");
    return text;
}

static json_t *config_object(json_t *options, const crnn_corpus *corpus, crnn_model *model)
{
    const crnn_device_info *device = crnn_model_device(model);
    const crnn_model_config *config = crnn_model_configuration(model);
    char hex[65];
    crnn_sha256_hex(hex, crnn_corpus_sha256(corpus));
    return json_pack("{s:s, s:s, s:O, s:{s:s, s:s, s:s, s:i}, s:{s:i, s:i, s:i, s:i, s:I}, s:{s:I, s:I, s:s}}",
                     "format", "crnn-gpu run", "version", crnn_version(), "options", options, "device", "kind",
                     device->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu", "name", device->name, "versions",
                     device->versions, "threads", (int)device->threads, "model", "vocab", (int)config->sizes.V,
                     "embedding", (int)config->sizes.E, "units", (int)config->sizes.H, "layers", (int)config->sizes.L,
                     "parameters", (json_int_t)crnn_model_parameters(&config->sizes), "corpus", "characters",
                     (json_int_t)crnn_corpus_train(corpus).count, "val_characters",
                     (json_int_t)crnn_corpus_val(corpus).count, "sha256", hex);
}

crnn_status crnn_rundir_write_config(const crnn_rundir *dir, const char *options_json, const crnn_corpus *corpus,
                                     crnn_model *model, crnn_error *err)
{
    crnn_status status = CRNN_ERR_MEMORY;
    json_error_t wrong;
    json_t *object = NULL;
    char *text = NULL;
    json_t *options = json_loads(options_json, 0, &wrong);
    if (!options)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the options of the run are no JSON: %s", wrong.text);
    object = config_object(options, corpus, model);
    text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    if (text)
        status = crnn_write_file_durably(dir->path, "config.json", text, strlen(text), err);
    else
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for config.json");
    free(text);
    json_decref(object);
    json_decref(options);
    return status;
}
