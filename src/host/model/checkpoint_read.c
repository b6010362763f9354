/* A checkpoint from its file, weights from anyone's file, and the checkpoint of a run that is the one to go on from. */
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/model/checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

/* --- a file ------------------------------------------------------------------------------------------------------------ */

/* The one tensor of that name, type and shape; its count goes off what the file must hold. */
static const crnn_st_tensor *expect(const crnn_st_file *file, const char *name, crnn_st_type type, int32_t rank,
                                    const int64_t *shape, const char *path, crnn_error *err)
{
    const crnn_st_tensor *tensor = crnn_st_find(file, name);
    bool fits = tensor && tensor->type == type && tensor->rank == rank;
    for (int32_t i = 0; fits && i < rank; i++)
        fits = tensor->shape[i] == shape[i];
    if (!fits)
        BAD("%s: it has no tensor %s of the type and shape that its sizes ask for", path, name);
    return fits ? tensor : NULL;
}

/* Checks that the file holds exactly what its sizes imply, before anything is allocated. */
static crnn_status check_tensors(const crnn_checkpoint *sizes, const crnn_st_file *file, const char *path,
                                 crnn_error *err)
{
    crnn_tensor_info tensors[CRNN_CHECKPOINT_TENSORS];
    int count = crnn_model_tensors(tensors, CRNN_CHECKPOINT_TENSORS, &sizes->sizes), roles = sizes->B ? 3 : 1;
    static const char *const prefix[3] = {"", "adam.m/", "adam.v/"};
    for (int role = 0; role < roles; role++)
        for (int k = 0; k < count; k++) {
            char name[64];
            snprintf(name, sizeof name, "%s%.47s", prefix[role], tensors[k].name);
            if (!expect(file, name, CRNN_ST_F32, tensors[k].rank, tensors[k].shape, path, err))
                return CRNN_ERR_FORMAT;
        }
    const int64_t state[3] = {sizes->sizes.L, sizes->B, sizes->sizes.H}, vocab[1] = {sizes->sizes.V}, digest[1] = {32};
    if (sizes->B && !expect(file, "state", CRNN_ST_F32, 3, state, path, err))
        return CRNN_ERR_FORMAT;
    if (!expect(file, "vocab", CRNN_ST_I32, 1, vocab, path, err) ||
        !expect(file, "sha256", CRNN_ST_U8, 1, digest, path, err))
        return CRNN_ERR_FORMAT;
    if (crnn_st_count(file) != count * roles + (sizes->B ? 3 : 2))
        return BAD("%s: it holds tensors that a checkpoint does not have", path);
    if (strcmp(crnn_st_at(file, crnn_st_count(file) - 1)->name, "sha256") != 0)
        return BAD("%s: its digest is not at its end", path);
    return CRNN_OK;
}

static crnn_status read_tensors(crnn_checkpoint *ckpt, crnn_st_file *file, crnn_error *err)
{
    crnn_tensor_info tensors[CRNN_CHECKPOINT_TENSORS];
    int count = crnn_model_tensors(tensors, CRNN_CHECKPOINT_TENSORS, &ckpt->sizes);
    float *roles[3] = {ckpt->weights, ckpt->m, ckpt->v};
    static const char *const prefix[3] = {"", "adam.m/", "adam.v/"};
    crnn_status status = CRNN_OK;
    for (int role = 0; role < (ckpt->m ? 3 : 1); role++)
        for (int k = 0; k < count && status == CRNN_OK; k++) {
            char name[64];
            snprintf(name, sizeof name, "%s%.47s", prefix[role], tensors[k].name);
            status = crnn_st_read(file, crnn_st_find(file, name), roles[role] + tensors[k].offset, err);
        }
    if (status == CRNN_OK && ckpt->state)
        status = crnn_st_read(file, crnn_st_find(file, "state"), ckpt->state, err);
    if (status == CRNN_OK)
        status = crnn_st_read(file, crnn_st_find(file, "vocab"), ckpt->vocab, err);
    return status;
}

static crnn_status check_digest(crnn_st_file *file, const char *path, crnn_error *err)
{
#ifndef CRNN_FUZZ_NO_DIGEST /* so that a fuzzer reaches what lies behind it */
    uint8_t computed[32], stored[32];
    crnn_status status = crnn_st_digest(file, computed, stored, err);
    if (status != CRNN_OK)
        return status;
    if (memcmp(computed, stored, sizeof computed) != 0)
        return BAD("%s: its SHA-256 does not fit its contents: it is damaged", path);
#else
    (void)file, (void)path, (void)err;
#endif
    return CRNN_OK;
}

static crnn_status check_vocabulary(const crnn_checkpoint *ckpt, const char *path, crnn_error *err)
{
    crnn_error why = {0};
    crnn_vocab *vocab = crnn_vocab_new(ckpt->vocab, ckpt->sizes.V, &why);
    crnn_vocab_free(vocab);
    return vocab ? CRNN_OK : BAD("%s: bad vocabulary: %s", path, why.text);
}

static crnn_checkpoint *read_file(crnn_st_file *file, const char *path, crnn_error *err)
{
    crnn_checkpoint sizes = {0}, *ckpt = NULL;
    if (crnn_metadata_read(&sizes, file, path, err) != CRNN_OK ||
        crnn_metadata_check_options(file, path, err) != CRNN_OK || check_tensors(&sizes, file, path, err) != CRNN_OK ||
        check_digest(file, path, err) != CRNN_OK)
        return NULL;
    ckpt = crnn_checkpoint_new(&sizes.sizes, sizes.B, sizes.B > 0, err);
    if (!ckpt)
        return NULL;
    if (crnn_metadata_read(ckpt, file, path, err) != CRNN_OK || read_tensors(ckpt, file, err) != CRNN_OK ||
        crnn_checkpoint_check_finite(ckpt, path, err) != CRNN_OK || check_vocabulary(ckpt, path, err) != CRNN_OK)
        goto fail;
    ckpt->options = strdup(crnn_st_metadata(file, "options"));
    if (!ckpt->options) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a checkpoint");
        goto fail;
    }
    return ckpt;
fail:
    crnn_checkpoint_free(ckpt);
    return NULL;
}

crnn_checkpoint *crnn_checkpoint_read(const char *path, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    crnn_st_file *file = crnn_st_open(path, err);
    crnn_checkpoint *ckpt = file ? read_file(file, crnn_shown(shown, path), err) : NULL;
    crnn_st_close(file);
    return ckpt;
}

crnn_status crnn_weights_read(const char *path, const crnn_model_sizes *sizes, float *weights, crnn_error *err)
{
    crnn_tensor_info tensors[CRNN_CHECKPOINT_TENSORS];
    int count = crnn_model_tensors(tensors, CRNN_CHECKPOINT_TENSORS, sizes);
    char shown[CRNN_SHOWN];
    crnn_shown(shown, path);
    crnn_st_file *file = crnn_st_open(path, err);
    if (!file)
        return err ? err->status : CRNN_ERR_FORMAT;
    crnn_status status = CRNN_OK;
    for (int k = 0; k < count && status == CRNN_OK; k++) {
        const crnn_st_tensor *tensor = crnn_st_find(file, tensors[k].name);
        bool fits = tensor && tensor->rank == tensors[k].rank;
        for (int32_t i = 0; fits && i < tensors[k].rank; i++)
            fits = tensor->shape[i] == tensors[k].shape[i];
        if (!fits)
            status = BAD("%s: it needs a tensor %s of shape [%lld%s%.0lld] for this model and vocabulary", shown,
                         tensors[k].name, (long long)tensors[k].shape[0], tensors[k].rank == 2 ? ", " : "",
                         (long long)tensors[k].shape[1]);
        else
            status = crnn_st_read_floats(file, tensor, weights + tensors[k].offset, err);
    }
    if (status == CRNN_OK && !crnn_all_finite(weights, crnn_model_parameters(sizes)))
        status = BAD("%s: a weight is not finite", shown);
    crnn_st_close(file);
    return status;
}

/* --- the checkpoint of a run ------------------------------------------------------------------------------------------- */

/* The step of a file named ckpt-<10 digits>.safetensors; -1 for any other name. */
static int64_t step_of_name(const char *name)
{
    if (strlen(name) != 27 || strncmp(name, "ckpt-", 5) != 0 || strspn(name + 5, "0123456789") != 10 ||
        strcmp(name + 15, ".safetensors") != 0)
        return -1;
    return strtoll(name + 5, NULL, 10);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The steps of a run's checkpoints, newest first; malloc'd. count -1 where the directory cannot be read. */
static int64_t *list_steps(const char *directory, int *count)
{
    DIR *dir = opendir(directory);
    int64_t *steps = NULL;
    *count = dir ? 0 : -1;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int64_t step = step_of_name(entry->d_name);
        int64_t *more = step >= 0 ? realloc(steps, ((size_t)*count + 1) * sizeof *steps) : NULL;
        if (!more)
            continue;
        steps = more;
        steps[(*count)++] = step;
    }
    if (dir)
        closedir(dir);
    if (*count > 1)
        qsort(steps, (size_t)*count, sizeof *steps, newest_first);
    return steps;
}

static char *checkpoint_path(const char *run, int64_t step)
{
    return crnn_format("%s/checkpoints/ckpt-%010lld.safetensors", run, (long long)step);
}

static crnn_checkpoint *newest_valid(const char *run, const int64_t *steps, int count, char **path,
                                     void (*note)(void *user, const char *sentence), void *user, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    for (int i = 0; i < count; i++) {
        crnn_error why = {0};
        char *file = checkpoint_path(run, steps[i]), sentence[600];
        crnn_checkpoint *ckpt = file ? crnn_checkpoint_read(file, &why) : NULL;
        if (ckpt) {
            *path = file;
            return ckpt;
        }
        free(file);
        snprintf(sentence, sizeof sentence, "skipped a checkpoint: %s", why.text);
        if (note)
            note(user, sentence);
    }
    BAD("%s: none of its %d checkpoints can be read", crnn_shown(shown, run), count);
    return NULL;
}

/* The best of the run on held-out text, as the newest one names it. Takes over newest and path. */
static crnn_checkpoint *best_of(const char *run, crnn_checkpoint *newest, char **path, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    int64_t step = newest->best_step;
    crnn_checkpoint_free(newest);
    free(*path);
    *path = NULL;
    if (step < 0) {
        BAD("%s: it has no best checkpoint, as it was trained without held-out text", crnn_shown(shown, run));
        return NULL;
    }
    *path = checkpoint_path(run, step);
    return *path ? crnn_checkpoint_read(*path, err) : NULL;
}

crnn_checkpoint *crnn_checkpoint_find(const char *run_or_file, bool best, char **path,
                                      void (*note)(void *user, const char *sentence), void *user, crnn_error *err)
{
    struct stat info;
    char shown[CRNN_SHOWN], *found = NULL;
    crnn_checkpoint *ckpt = NULL;
    crnn_shown(shown, run_or_file);
    if (path)
        *path = NULL;
    if (stat(run_or_file, &info) != 0) {
        crnn_fail(err, CRNN_ERR_IO, "cannot open the run or checkpoint %s: %s", shown, strerror(errno));
        return NULL;
    }
    if (S_ISDIR(info.st_mode)) {
        int count;
        char *directory = crnn_format("%s/checkpoints", run_or_file);
        int64_t *steps = directory ? list_steps(directory, &count) : NULL;
        if (!steps)
            BAD("%s is no run: it has no checkpoints/ckpt-*.safetensors", shown);
        else
            ckpt = newest_valid(run_or_file, steps, count, &found, note, user, err);
        if (ckpt && best)
            ckpt = best_of(run_or_file, ckpt, &found, err);
        free(directory);
        free(steps);
    } else {
        found = strdup(run_or_file);
        ckpt = found ? crnn_checkpoint_read(run_or_file, err) : NULL;
    }
    if (ckpt && path)
        *path = found;
    else
        free(found);
    return ckpt;
}
