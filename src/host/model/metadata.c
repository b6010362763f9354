/* The metadata of a checkpoint: one table for writing and for reading. */
#include "host/base/escape.h"
#include "host/base/json.h"
#include "host/base/sha256.h"
#include "host/model/checkpoint.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 64, MAX_SIZE = 1 << 24, OPTIONS_VALUES = 1 << 15 };
static const char format_name[] = "crnn-checkpoint";
static const char format_version[] = "1.0";

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

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
enum { FIELDS = sizeof fields / sizeof *fields };
_Static_assert(FIELDS + 5 == CRNN_METADATA, "the fields, and format, version, producer, corpus_sha256 and options");

/* Numbers as text that reads back to the same bits. */
static void field_text(char out[CRNN_METADATA_ROOM], const crnn_checkpoint *ckpt, const field *f)
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
        snprintf(out, CRNN_METADATA_ROOM, "%" PRId32, narrow);
        break;
    case INT64:
        memcpy(&wide, at, sizeof wide);
        snprintf(out, CRNN_METADATA_ROOM, "%" PRId64, wide);
        break;
    case UINT64:
        memcpy(&natural, at, sizeof natural);
        snprintf(out, CRNN_METADATA_ROOM, "%" PRIu64, natural);
        break;
    case REAL:
        memcpy(&real, at, sizeof real);
        snprintf(out, CRNN_METADATA_ROOM, "%.17g", real);
        break;
    case SINGLE:
        memcpy(&single, at, sizeof single);
        snprintf(out, CRNN_METADATA_ROOM, "%.9g", (double)single);
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

void crnn_metadata_list(crnn_st_meta meta[CRNN_METADATA], char room[CRNN_METADATA][CRNN_METADATA_ROOM],
                        const crnn_checkpoint *ckpt)
{
    int n = 0;
    meta[n++] = (crnn_st_meta){"format", format_name};
    meta[n++] = (crnn_st_meta){"version", format_version};
    meta[n++] = (crnn_st_meta){"producer", "crnn-gpu " CRNN_VERSION};
    for (int i = 0; i < FIELDS; i++, n++) {
        field_text(room[n], ckpt, &fields[i]);
        meta[n] = (crnn_st_meta){fields[i].key, room[n]};
    }
    crnn_sha256_hex(room[n], ckpt->corpus_sha256);
    meta[n] = (crnn_st_meta){"corpus_sha256", room[n]};
    meta[n + 1] = (crnn_st_meta){"options", ckpt->options ? ckpt->options : "{}"};
}

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

crnn_status crnn_metadata_check_options(const crnn_st_file *file, const char *path, crnn_error *err)
{
    const char *options = crnn_st_metadata(file, "options");
    char what[CRNN_SHOWN + 40];
    snprintf(what, sizeof what, "%s: the run's options in it", path);
    json_t *object = crnn_json_read(options, strlen(options), 2, OPTIONS_VALUES, what, err);
    json_decref(object);
    return object ? CRNN_OK : CRNN_ERR_FORMAT;
}

crnn_status crnn_metadata_read(crnn_checkpoint *ckpt, const crnn_st_file *file, const char *path, crnn_error *err)
{
    crnn_status status = check_version(file, path, err);
    return status == CRNN_OK ? read_numbers(ckpt, file, path, err) : status;
}
