/* Checkpoints: what a run is, to and from one safetensors file. docs/CHECKPOINT.md has the format and both protocols. */
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/json.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include "host/tensors/safetensors.h"
#include <crnn/checkpoint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    MAX_TENSORS = 3 + 3 * 64,
    MAX_LAYERS = 64,
    MAX_SIZE = 1 << 24,
    OPTIONS_ROOM = 1 << 19,
    OPTIONS_VALUES = 1 << 15
};
static const char format_name[] = "crnn-checkpoint";
static const char format_version[] = "1.0";

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

static int64_t state_count(const crnn_checkpoint *ckpt)
{
    return (int64_t)ckpt->sizes.L * ckpt->B * ckpt->sizes.H;
}

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
        ckpt->state = crnn_alloc((size_t)state_count(ckpt), sizeof *ckpt->state, "the state", err);
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

/* --- what the metadata hold: one table for writing and for reading ------------------------------------------------------ */

typedef enum { INT32, INT64, UINT64, REAL, SINGLE } field_type;

typedef struct {
    const char *key;
    field_type type;
    size_t offset;
} field;

#define FIELD(key, type, member)                                                                                       \
    {                                                                                                                  \
        key, type, offsetof(crnn_checkpoint, member)                                                                   \
    }
static const field fields[] = {
    FIELD("V", INT32, sizes.V),
    FIELD("E", INT32, sizes.E),
    FIELD("H", INT32, sizes.H),
    FIELD("L", INT32, sizes.L),
    FIELD("dropout", SINGLE, sizes.dropout),
    FIELD("B", INT32, B),
    FIELD("step", INT64, step),
    FIELD("adam_count", INT64, count),
    FIELD("epoch", INT64, epoch),
    FIELD("position", INT64, position),
    FIELD("seed", UINT64, seed),
    FIELD("rate_factor", REAL, rate_factor),
    FIELD("returns", INT64, returns),
    FIELD("best_val_loss", REAL, best_val_loss),
    FIELD("best_step", INT64, best_step),
    FIELD("loss_last", REAL, loss_last),
    FIELD("epoch_loss_sum", REAL, epoch_loss_sum),
    FIELD("epoch_positions", INT64, epoch_positions),
    FIELD("epoch_hits", INT64, epoch_hits),
    FIELD("corpus_characters", INT64, corpus_characters),
};
enum { FIELDS = sizeof fields / sizeof *fields, FIELD_ROOM = 40 };

/* Numbers as text that reads back to the same bits. */
static void field_text(char out[FIELD_ROOM], const crnn_checkpoint *ckpt, const field *f)
{
    const char *at = (const char *)ckpt + f->offset;
    int32_t narrow;
    int64_t wide;
    uint64_t natural;
    double real;
    float single;
    switch (f->type) {
    case INT32:
        memcpy(&narrow, at, sizeof narrow);
        snprintf(out, FIELD_ROOM, "%" PRId32, narrow);
        break;
    case INT64:
        memcpy(&wide, at, sizeof wide);
        snprintf(out, FIELD_ROOM, "%" PRId64, wide);
        break;
    case UINT64:
        memcpy(&natural, at, sizeof natural);
        snprintf(out, FIELD_ROOM, "%" PRIu64, natural);
        break;
    case REAL:
        memcpy(&real, at, sizeof real);
        snprintf(out, FIELD_ROOM, "%.17g", real);
        break;
    case SINGLE:
        memcpy(&single, at, sizeof single);
        snprintf(out, FIELD_ROOM, "%.9g", (double)single);
        break;
    }
}

static bool field_value(crnn_checkpoint *ckpt, const field *f, const char *text)
{
    char *at = (char *)ckpt + f->offset, *end = NULL;
    errno = 0;
    if (f->type == REAL || f->type == SINGLE) {
        double real = strtod(text, &end);
        float single = (float)real;
        memcpy(at, f->type == REAL ? (const void *)&real : (const void *)&single,
               f->type == REAL ? sizeof real : sizeof single);
        return end != text && *end == 0 && !isnan(real);
    }
    if (f->type == UINT64) {
        uint64_t natural = strtoull(text, &end, 10);
        memcpy(at, &natural, sizeof natural);
        return end != text && *end == 0 && errno == 0 && text[0] != '-';
    }
    int64_t wide = strtoll(text, &end, 10);
    int32_t narrow = (int32_t)wide;
    memcpy(at, f->type == INT64 ? (const void *)&wide : (const void *)&narrow,
           f->type == INT64 ? sizeof wide : sizeof narrow);
    return end != text && *end == 0 && errno == 0 && (f->type == INT64 || narrow == wide);
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */

static bool all_finite(const float *x, int64_t n)
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

static crnn_status check_finite(const crnn_checkpoint *ckpt, const char *path, crnn_error *err)
{
    int64_t parameters = crnn_model_parameters(&ckpt->sizes);
    if (!all_finite(ckpt->weights, parameters))
        return BAD("%s: a weight is not finite", path);
    if (ckpt->m && (!all_finite(ckpt->m, parameters) || !all_finite(ckpt->v, parameters)))
        return BAD("%s: a moment of Adam is not finite", path);
    if (ckpt->state && !all_finite(ckpt->state, state_count(ckpt)))
        return BAD("%s: the hidden state is not finite", path);
    return CRNN_OK;
}

/* Everything that goes into the file, in order. names: room for the moments' names. Returns how many. */
static int list_tensors(crnn_st_out *out, char (*names)[64], const crnn_checkpoint *ckpt)
{
    crnn_tensor_info tensors[MAX_TENSORS];
    int count = crnn_model_tensors(tensors, MAX_TENSORS, &ckpt->sizes), n = 0;
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
    crnn_st_out *out = crnn_alloc(3 * MAX_TENSORS + 2, sizeof *out, "a checkpoint's table", err);
    char(*names)[64] = crnn_alloc(3 * MAX_TENSORS, sizeof *names, "a checkpoint's table", err);
    char values[FIELDS][FIELD_ROOM], corpus[65];
    crnn_st_meta meta[FIELDS + 5];
    int n = 0;
    meta[n++] = (crnn_st_meta){"format", format_name};
    meta[n++] = (crnn_st_meta){"version", format_version};
    meta[n++] = (crnn_st_meta){"producer", "crnn-gpu " CRNN_VERSION};
    for (int i = 0; i < FIELDS; i++) {
        field_text(values[i], ckpt, &fields[i]);
        meta[n++] = (crnn_st_meta){fields[i].key, values[i]};
    }
    crnn_sha256_hex(corpus, ckpt->corpus_sha256);
    meta[n++] = (crnn_st_meta){"corpus_sha256", corpus};
    meta[n++] = (crnn_st_meta){"options", ckpt->options ? ckpt->options : "{}"};
    crnn_status status = CRNN_ERR_MEMORY;
    if (out && names)
        status = crnn_st_write(fd, path, out, list_tensors(out, names, ckpt), meta, n, digest, err);
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
    crnn_status status = check_finite(ckpt, "this checkpoint", err);
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

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static crnn_status check_version(const crnn_st_file *file, const char *path, crnn_error *err)
{
    const char *format = crnn_st_metadata(file, "format"), *version = crnn_st_metadata(file, "version");
    if (!format || strcmp(format, format_name) != 0 || !version)
        return BAD("%s: a safetensors file, but no checkpoint of crnn-gpu; `train --init` can start from its weights",
                   path);
    if (strncmp(version, "1.", 2) != 0)
        return BAD("%s: a checkpoint of format %.20s; this program reads format %s", path, version, format_version);
    return CRNN_OK;
}

/* Fills the numbers of ckpt from the metadata, and checks that they make sense. */
static crnn_status read_numbers(crnn_checkpoint *ckpt, const crnn_st_file *file, const char *path, crnn_error *err)
{
    for (int i = 0; i < FIELDS; i++) {
        const char *text = crnn_st_metadata(file, fields[i].key);
        if (!text || !field_value(ckpt, &fields[i], text))
            return BAD("%s: its metadata have no usable %s", path, fields[i].key);
    }
    const crnn_model_sizes *s = &ckpt->sizes;
    if (s->V < 1 || s->V > CRNN_MAX_VOCAB || s->E < 1 || s->E > MAX_SIZE || s->H < 1 || s->H > MAX_SIZE || s->L < 1 ||
        s->L > MAX_LAYERS || ckpt->B < 0 || ckpt->B > MAX_SIZE || !(s->dropout >= 0 && s->dropout < 1))
        return BAD("%s: impossible sizes: V %d, E %d, H %d, L %d, B %d", path, (int)s->V, (int)s->E, (int)s->H,
                   (int)s->L, (int)ckpt->B);
    if (ckpt->step < 0 || ckpt->count < 0 || ckpt->count > ckpt->step || ckpt->epoch < 0 || ckpt->position < 0 ||
        ckpt->returns < 0 || !(ckpt->rate_factor > 0 && ckpt->rate_factor <= 1) || ckpt->best_step < -1 ||
        ckpt->epoch_positions < 0 || ckpt->epoch_hits < 0 || !isfinite(ckpt->epoch_loss_sum) ||
        ckpt->corpus_characters < 0)
        return BAD("%s: its metadata hold a number that cannot be", path);
    const char *corpus = crnn_st_metadata(file, "corpus_sha256"), *options = crnn_st_metadata(file, "options");
    if (!corpus || strlen(corpus) != 64 || strspn(corpus, "0123456789abcdef") != 64 || !options)
        return BAD("%s: its metadata have no usable corpus_sha256 or options", path);
    for (int i = 0; i < 32; i++) {
        unsigned byte;
        sscanf(corpus + 2 * i, "%2x", &byte);
        ckpt->corpus_sha256[i] = (uint8_t)byte;
    }
    return CRNN_OK;
}

/* Whoever reads the options later may trust that they are an object of sane size. */
static crnn_status check_run_options(const crnn_st_file *file, const char *path, crnn_error *err)
{
    const char *options = crnn_st_metadata(file, "options");
    char what[CRNN_SHOWN + 40];
    snprintf(what, sizeof what, "%s: the run's options in it", path);
    json_t *object = crnn_json_read(options, strlen(options), 2, OPTIONS_VALUES, what, err);
    json_decref(object);
    return object ? CRNN_OK : CRNN_ERR_FORMAT;
}

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
    crnn_tensor_info tensors[MAX_TENSORS];
    int count = crnn_model_tensors(tensors, MAX_TENSORS, &sizes->sizes), roles = sizes->B ? 3 : 1;
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
    crnn_tensor_info tensors[MAX_TENSORS];
    int count = crnn_model_tensors(tensors, MAX_TENSORS, &ckpt->sizes);
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
    if (check_version(file, path, err) != CRNN_OK || read_numbers(&sizes, file, path, err) != CRNN_OK ||
        check_run_options(file, path, err) != CRNN_OK || check_tensors(&sizes, file, path, err) != CRNN_OK ||
        check_digest(file, path, err) != CRNN_OK)
        return NULL;
    ckpt = crnn_checkpoint_new(&sizes.sizes, sizes.B, sizes.B > 0, err);
    if (!ckpt)
        return NULL;
    if (read_numbers(ckpt, file, path, err) != CRNN_OK || read_tensors(ckpt, file, err) != CRNN_OK ||
        check_finite(ckpt, path, err) != CRNN_OK || check_vocabulary(ckpt, path, err) != CRNN_OK)
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
    crnn_tensor_info tensors[MAX_TENSORS];
    int count = crnn_model_tensors(tensors, MAX_TENSORS, sizes);
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
    if (status == CRNN_OK && !all_finite(weights, crnn_model_parameters(sizes)))
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
