/* A checkpoint in memory, and its way to one safetensors file. */
#include "host/model/checkpoint.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { OPTIONS_ROOM = 1 << 19 };

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

crnn_checkpoint *crnn_checkpoint_new(const crnn_model_sizes *sizes, int32_t B, bool training, crnn_error *err)
{
    crnn_checkpoint *ckpt = crnn_alloc(1, sizeof *ckpt, "a checkpoint", err);
    if (!ckpt)
        return NULL;
    ckpt->sizes = *sizes;
    ckpt->B = training ? B : 0;
    ckpt->rate_factor = 1;
    ckpt->best_val_loss = INFINITY;
    ckpt->best_step = -1;
    size_t parameters = (size_t)crnn_model_parameters(sizes);
    ckpt->vocab = crnn_alloc((size_t)sizes->V, sizeof *ckpt->vocab, "a vocabulary", err);
    ckpt->weights = crnn_alloc(parameters, sizeof *ckpt->weights, "the weights", err);
    bool fine = ckpt->vocab && ckpt->weights;
    if (training) {
        ckpt->m = crnn_alloc(parameters, sizeof *ckpt->m, "Adam's moments", err);
        ckpt->v = crnn_alloc(parameters, sizeof *ckpt->v, "Adam's moments", err);
        ckpt->state = crnn_alloc((size_t)crnn_checkpoint_state_count(ckpt), sizeof *ckpt->state, "the state", err);
        fine = fine && ckpt->m && ckpt->v && ckpt->state;
    }
    if (fine)
        return ckpt;
    crnn_checkpoint_free(ckpt);
    return NULL;
}

void crnn_checkpoint_free(crnn_checkpoint *ckpt)
{
    if (!ckpt)
        return;
    free(ckpt->vocab);
    free(ckpt->weights);
    free(ckpt->m);
    free(ckpt->v);
    free(ckpt->state);
    free(ckpt->options);
    free(ckpt);
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */

bool crnn_all_finite(const float *x, int64_t n)
{
    /* An exponent of all ones anywhere; no early exit, so that it runs as vector code. */
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7F800000U) == 0x7F800000U;
    }
    return !bad;
}

crnn_status crnn_checkpoint_check_finite(const crnn_checkpoint *ckpt, const char *path, crnn_error *err)
{
    int64_t parameters = crnn_model_parameters(&ckpt->sizes);
    if (!crnn_all_finite(ckpt->weights, parameters))
        return BAD("%s: a weight is not finite", path);
    if (ckpt->m && (!crnn_all_finite(ckpt->m, parameters) || !crnn_all_finite(ckpt->v, parameters)))
        return BAD("%s: a moment of Adam is not finite", path);
    if (ckpt->state && !crnn_all_finite(ckpt->state, crnn_checkpoint_state_count(ckpt)))
        return BAD("%s: the hidden state is not finite", path);
    return CRNN_OK;
}

/* Everything that goes into the file, in order. names: room for the moments' names. Returns how many. */
static int list_tensors(crnn_st_out *out, char (*names)[64], const crnn_checkpoint *ckpt)
{
    crnn_tensor_info tensors[CRNN_CHECKPOINT_TENSORS];
    int count = crnn_model_tensors(tensors, CRNN_CHECKPOINT_TENSORS, &ckpt->sizes), n = 0;
    const float *roles[3] = {ckpt->weights, ckpt->m, ckpt->v};
    static const char *const prefix[3] = {"", "adam.m/", "adam.v/"};
    for (int role = 0; role < (ckpt->m ? 3 : 1); role++)
        for (int k = 0; k < count; k++) {
            snprintf(names[n], sizeof names[n], "%s%.47s", prefix[role], tensors[k].name);
            out[n] = (crnn_st_out){names[n],
                                   CRNN_ST_F32,
                                   tensors[k].rank,
                                   {tensors[k].shape[0], tensors[k].shape[1]},
                                   roles[role] + tensors[k].offset};
            n++;
        }
    if (ckpt->state)
        out[n++] = (crnn_st_out){"state", CRNN_ST_F32, 3, {ckpt->sizes.L, ckpt->B, ckpt->sizes.H}, ckpt->state};
    out[n++] = (crnn_st_out){"vocab", CRNN_ST_I32, 1, {ckpt->sizes.V}, ckpt->vocab};
    return n;
}

static crnn_status write_contents(int fd, const char *path, const crnn_checkpoint *ckpt, uint8_t digest[32],
                                  crnn_error *err)
{
    crnn_st_out *out = crnn_alloc(3 * CRNN_CHECKPOINT_TENSORS + 2, sizeof *out, "a checkpoint's table", err);
    char(*names)[64] = crnn_alloc(3 * CRNN_CHECKPOINT_TENSORS, sizeof *names, "a checkpoint's table", err);
    char room[CRNN_METADATA][CRNN_METADATA_ROOM];
    crnn_st_meta meta[CRNN_METADATA];
    crnn_metadata_list(meta, room, ckpt);
    crnn_status status = CRNN_ERR_MEMORY;
    if (out && names)
        status = crnn_st_write(fd, path, out, list_tensors(out, names, ckpt), meta, CRNN_METADATA, digest, err);
    free(out);
    free(names);
    return status;
}

/* Warns while there is still time, where less than twice the file's size is free. */
static void warn_of_little_room(const crnn_checkpoint *ckpt, int dir, const char *shown,
                                void (*note)(void *user, const char *sentence), void *user)
{
    struct statvfs disk;
    char sentence[480];
    double size = 4.0 * (double)crnn_model_parameters(&ckpt->sizes) * (ckpt->m ? 3 : 1);
    if (!note || fstatvfs(dir, &disk) != 0)
        return;
    double room = (double)disk.f_bavail * (double)disk.f_frsize;
    if (room >= 2 * size)
        return;
    snprintf(sentence, sizeof sentence, "the disk of %s is nearly full: %.1f MB free, a checkpoint takes %.1f MB",
             shown, room / 1e6, size / 1e6);
    note(user, sentence);
}

/* Reads the file back from the disk's point of view and compares the digest. */
static crnn_status verify(const char *path, const uint8_t digest[32], crnn_error *err)
{
    uint8_t computed[32], stored[32];
    crnn_st_file *file = crnn_st_open(path, err);
    if (!file)
        return err ? err->status : CRNN_ERR_IO;
    crnn_status status = crnn_st_digest(file, computed, stored, err);
    crnn_st_close(file);
    if (status == CRNN_OK && (memcmp(computed, digest, 32) != 0 || memcmp(stored, digest, 32) != 0))
        status =
            crnn_fail(err, CRNN_ERR_IO,
                      "a checkpoint read back from the disk is not what was written: the disk or memory is faulty");
    return status;
}

/* Steps 3 to 8 of the protocol: everything between the check of the values and "saved". */
static crnn_status write_durably(const crnn_checkpoint *ckpt, int dir, const char *dir_path, const char *shown,
                                 const char *name, crnn_error *err)
{
    char temporary[300], path[4400];
    uint8_t digest[32];
    snprintf(temporary, sizeof temporary, ".tmp-%ld-%s", (long)getpid(), name);
    if (snprintf(path, sizeof path, "%s/%s", dir_path, temporary) >= (int)sizeof path)
        return crnn_fail(err, CRNN_ERR_IO, "the path of %s is too long", shown);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST && unlinkat(dir, temporary, 0) == 0) /* our own, of a save that failed */
        fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot create a checkpoint in %s: %s", shown, strerror(errno));
    crnn_status status = write_contents(fd, path, ckpt, digest, err);
    if (status == CRNN_OK && fsync(fd) != 0)
        status = crnn_fail(err, CRNN_ERR_IO, "cannot bring a checkpoint in %s to the disk: %s", shown, strerror(errno));
    if (close(fd) != 0 && status == CRNN_OK)
        status = crnn_fail(err, CRNN_ERR_IO, "cannot finish a checkpoint in %s: %s", shown, strerror(errno));
    if (status == CRNN_OK)
        status = verify(path, digest, err);
    if (status == CRNN_OK && renameat(dir, temporary, dir, name) != 0)
        status = crnn_fail(err, CRNN_ERR_IO, "cannot put a checkpoint in place in %s: %s", shown, strerror(errno));
    if (status != CRNN_OK) {
        unlinkat(dir, temporary, 0);
        return status;
    }
    if (fsync(dir) != 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot bring the directory %s to the disk: %s", shown, strerror(errno));
    return CRNN_OK;
}

crnn_status crnn_checkpoint_write(const crnn_checkpoint *ckpt, const char *dir_path, const char *name,
                                  void (*note)(void *user, const char *sentence), void *user, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    crnn_shown(shown, dir_path);
    crnn_status status = crnn_checkpoint_check_finite(ckpt, "this checkpoint", err);
    if (status != CRNN_OK)
        return status;
    if (ckpt->options && strlen(ckpt->options) > OPTIONS_ROOM)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the options of the run are longer than %d bytes", OPTIONS_ROOM);
    int dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot open the directory %s: %s", shown, strerror(errno));
    warn_of_little_room(ckpt, dir, shown, note, user);
    status = write_durably(ckpt, dir, dir_path, shown, name, err);
    close(dir);
    return status;
}
