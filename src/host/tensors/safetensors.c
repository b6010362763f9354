/* Safetensors files: parsed as if an enemy had written them, written in one pass with their digest. */
#include "host/tensors/safetensors.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/json.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_HEADER = 1 << 20, MAX_TENSORS = 4096, MAX_DEPTH = 3, DIGEST = 32, BLOCK = 1 << 18, PATH_SHOWN = 200 };
enum {
    MAX_VALUES = 12 * MAX_TENSORS
}; /* a tensor of rank 4 has 10 brackets and commas; the rest is for the metadata */

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [CRNN_ST_U8] = {"U8", 1},     [CRNN_ST_I32] = {"I32", 4}, [CRNN_ST_I64] = {"I64", 8}, [CRNN_ST_F16] = {"F16", 2},
    [CRNN_ST_BF16] = {"BF16", 2}, [CRNN_ST_F32] = {"F32", 4}, [CRNN_ST_F64] = {"F64", 8},
};
enum { TYPES = sizeof types / sizeof *types };

struct crnn_st_file {
    int fd;
    char path[PATH_SHOWN]; /* as shown in messages */
    int64_t size;
    crnn_st_tensor *tensors;
    int count;
    json_t *metadata; /* object of strings, or NULL */
};

size_t crnn_st_type_size(crnn_st_type type)
{
    return types[type].size;
}

#define BAD(...) crnn_fail(err, CRNN_ERR_FORMAT, __VA_ARGS__)

/* --- the header ------------------------------------------------------------------------------------------------------- */

/* A whole number from 0 on. */
static bool is_count(const json_t *number, int64_t *value)
{
    *value = json_integer_value(number);
    return json_is_integer(number) && *value >= 0;
}

static crnn_status parse_shape(crnn_st_tensor *tensor, const json_t *shape, const char *path, crnn_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > 4)
        return BAD("%s: tensor %s has no shape of at most 4 sizes", path, tensor->name);
    size_t count = 1;
    tensor->rank = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < tensor->rank; i++) {
        if (!is_count(json_array_get(shape, (size_t)i), &tensor->shape[i]) ||
            !crnn_mul_size(&count, count, (size_t)tensor->shape[i]) || count > INT64_MAX / 8)
            return BAD("%s: tensor %s has an impossible shape", path, tensor->name);
    }
    tensor->count = (int64_t)count;
    return CRNN_OK;
}

static crnn_status parse_tensor(crnn_st_tensor *tensor, const char *name, const json_t *entry, int64_t data,
                                const char *path, crnn_error *err)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *span = json_object_get(entry, "data_offsets");
    int type = 0;
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    if (strlen(name) >= sizeof tensor->name)
        return BAD("%s: a tensor's name is longer than %zu bytes", path, sizeof tensor->name - 1);
    if (!json_is_object(entry) || json_object_size(entry) != 3 || !json_is_string(dtype) || !json_is_array(span) ||
        json_array_size(span) != 2)
        return BAD("%s: tensor %s needs exactly dtype, shape and data_offsets", path, name);
    while (type < TYPES && strcmp(types[type].name, json_string_value(dtype)) != 0)
        type++;
    if (type == TYPES)
        return BAD("%s: tensor %s has a type that is not supported", path, name);
    tensor->type = (crnn_st_type)type;
    crnn_status status = parse_shape(tensor, json_object_get(entry, "shape"), path, err);
    if (status != CRNN_OK)
        return status;
    int64_t end;
    if (!is_count(json_array_get(span, 0), &tensor->begin) || !is_count(json_array_get(span, 1), &end) ||
        end < tensor->begin)
        return BAD("%s: tensor %s has impossible offsets", path, name);
    tensor->bytes = end - tensor->begin;
    if (tensor->bytes != tensor->count * (int64_t)types[type].size)
        return BAD("%s: tensor %s: its shape and its %lld bytes do not agree", path, name, (long long)tensor->bytes);
    if (tensor->begin > INT64_MAX - data)
        return BAD("%s: tensor %s has impossible offsets", path, name);
    tensor->begin += data;
    return CRNN_OK;
}

static int by_place(const void *a, const void *b)
{
    const crnn_st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static crnn_status check_metadata(const json_t *metadata, const char *path, crnn_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return BAD("%s: __metadata__ is not an object", path);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) if (!json_is_string(value)) return BAD(
        "%s: __metadata__ holds something that is not a string", path);
    return CRNN_OK;
}

static crnn_status parse_header(crnn_st_file *file, const json_t *header, int64_t data, crnn_error *err)
{
    size_t entries = json_object_size(header);
    if (entries > MAX_TENSORS)
        return BAD("%s: more than %d tensors", file->path, MAX_TENSORS);
    file->tensors = crnn_alloc(entries ? entries : 1, sizeof *file->tensors, "the table of a file", err);
    if (!file->tensors)
        return CRNN_ERR_MEMORY;
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry)
    {
        crnn_status status;
        if (strcmp(name, "__metadata__") == 0) {
            status = check_metadata(entry, file->path, err);
            file->metadata = json_incref(entry);
        } else {
            status = parse_tensor(&file->tensors[file->count++], name, entry, data, file->path, err);
        }
        if (status != CRNN_OK)
            return status;
    }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, by_place);
    int64_t at = data;
    for (int i = 0; i < file->count; i++) {
        if (file->tensors[i].begin != at)
            return BAD("%s: tensor %s does not begin where the one before it ends", file->path, file->tensors[i].name);
        if (file->tensors[i].bytes > file->size - at)
            return BAD("%s: tensor %s goes beyond the end of the file at byte %lld: it was cut short or damaged",
                       file->path, file->tensors[i].name, (long long)file->size);
        at += file->tensors[i].bytes;
    }
    if (at != file->size)
        return BAD("%s: its tensors end at byte %lld, the file at %lld: it was cut short or damaged", file->path,
                   (long long)at, (long long)file->size);
    return CRNN_OK;
}

static crnn_status read_header(crnn_st_file *file, crnn_error *err)
{
    unsigned char length[8];
    uint64_t N = 0;
    if (file->size < 10)
        return BAD("%s: %lld bytes are too few for a safetensors file", file->path, (long long)file->size);
    crnn_status status = crnn_read_full(file->fd, length, sizeof length, file->path, err);
    if (status != CRNN_OK)
        return status;
    for (int i = 7; i >= 0; i--)
        N = N << 8 | length[i];
    if (N < 2 || N > MAX_HEADER || N > (uint64_t)file->size - 8)
        return BAD("%s: no safetensors file (its header would have %llu bytes)", file->path, (unsigned long long)N);
    char *text = crnn_alloc(N + 1, 1, "the header of a file", err);
    if (!text)
        return CRNN_ERR_MEMORY;
    status = crnn_read_full(file->fd, text, N, file->path, err);
    json_t *header = NULL;
    if (status == CRNN_OK) {
        char what[PATH_SHOWN + 20];
        snprintf(what, sizeof what, "%s: its header", file->path);
        header = crnn_json_read(text, N, MAX_DEPTH, MAX_VALUES, what, err);
        status = header ? parse_header(file, header, (int64_t)N + 8, err) : err ? err->status : CRNN_ERR_FORMAT;
    }
    json_decref(header);
    free(text);
    return status;
}

crnn_st_file *crnn_st_open(const char *path, crnn_error *err)
{
    crnn_st_file *file = crnn_alloc(1, sizeof *file, "a file", err);
    if (!file)
        return NULL;
    crnn_escape(file->path, sizeof file->path, path, strlen(path), false);
    file->fd = crnn_open_regular(path, &file->size, err);
    if (file->fd < 0 || read_header(file, err) != CRNN_OK) {
        crnn_st_close(file);
        return NULL;
    }
    return file;
}

void crnn_st_close(crnn_st_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    json_decref(file->metadata);
    free(file->tensors);
    free(file);
}

int crnn_st_count(const crnn_st_file *file)
{
    return file->count;
}

const crnn_st_tensor *crnn_st_at(const crnn_st_file *file, int index)
{
    return &file->tensors[index];
}

const crnn_st_tensor *crnn_st_find(const crnn_st_file *file, const char *name)
{
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

const char *crnn_st_metadata(const crnn_st_file *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

int64_t crnn_st_size(const crnn_st_file *file)
{
    return file->size;
}

/* --- data ------------------------------------------------------------------------------------------------------------- */

static crnn_status go_to(crnn_st_file *file, int64_t offset, crnn_error *err)
{
    if (lseek(file->fd, offset, SEEK_SET) != offset)
        return crnn_fail(err, CRNN_ERR_IO, "cannot read %s at byte %lld", file->path, (long long)offset);
    return CRNN_OK;
}

crnn_status crnn_st_read(crnn_st_file *file, const crnn_st_tensor *tensor, void *data, crnn_error *err)
{
    crnn_status status = go_to(file, tensor->begin, err);
    return status == CRNN_OK ? crnn_read_full(file->fd, data, (size_t)tensor->bytes, file->path, err) : status;
}

static double half_to_double(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent == 31 ? (mantissa ? (double)__builtin_nanf("") : __builtin_inf())
                   : exponent     ? __builtin_ldexp(1024 + mantissa, exponent - 25)
                                  : __builtin_ldexp(mantissa, -24);
    return half & 0x8000 ? -value : value;
}

static double element(const unsigned char *at, crnn_st_type type)
{
    uint16_t half;
    uint32_t bits;
    float single;
    double value;
    switch (type) {
    case CRNN_ST_F64:
        memcpy(&value, at, sizeof value);
        return value;
    case CRNN_ST_F32:
        memcpy(&single, at, sizeof single);
        return (double)single;
    case CRNN_ST_F16:
        memcpy(&half, at, sizeof half);
        return half_to_double(half);
    default:
        memcpy(&half, at, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&single, &bits, sizeof single);
        return (double)single;
    }
}

/* Either floats or doubles gets the values. */
static crnn_status read_reals(crnn_st_file *file, const crnn_st_tensor *tensor, float *floats, double *doubles,
                              crnn_error *err)
{
    unsigned char block[8192];
    size_t size = types[tensor->type].size;
    if (tensor->type < CRNN_ST_F16)
        return BAD("%s: tensor %s holds whole numbers where real ones are needed", file->path, tensor->name);
    crnn_status status = go_to(file, tensor->begin, err);
    for (int64_t done = 0; done < tensor->count && status == CRNN_OK;) {
        int64_t some = (int64_t)(sizeof block / size);
        if (some > tensor->count - done)
            some = tensor->count - done;
        status = crnn_read_full(file->fd, block, (size_t)some * size, file->path, err);
        for (int64_t i = 0; i < some && status == CRNN_OK; i++) {
            double value = element(block + (size_t)i * size, tensor->type);
            if (floats)
                floats[done + i] = (float)value;
            else
                doubles[done + i] = value;
        }
        done += some;
    }
    return status;
}

crnn_status crnn_st_read_floats(crnn_st_file *file, const crnn_st_tensor *tensor, float *out, crnn_error *err)
{
    return read_reals(file, tensor, out, NULL, err);
}

crnn_status crnn_st_read_doubles(crnn_st_file *file, const crnn_st_tensor *tensor, double *out, crnn_error *err)
{
    return read_reals(file, tensor, NULL, out, err);
}

crnn_status crnn_st_digest(crnn_st_file *file, uint8_t computed[32], uint8_t stored[32], crnn_error *err)
{
    crnn_sha256 *hash = crnn_sha256_new();
    unsigned char *block = crnn_alloc(BLOCK, 1, "a block of a file", err);
    crnn_status status =
        hash && block ? go_to(file, 0, err) : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a digest");
    for (int64_t left = file->size - DIGEST; left > 0 && status == CRNN_OK;) {
        size_t some = left < BLOCK ? (size_t)left : BLOCK;
        status = crnn_read_full(file->fd, block, some, file->path, err);
        if (status == CRNN_OK && !crnn_sha256_add(hash, block, some))
            status = crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
        left -= (int64_t)some;
    }
    if (status == CRNN_OK)
        status = crnn_read_full(file->fd, stored, DIGEST, file->path, err);
    if (status == CRNN_OK && !crnn_sha256_end(hash, computed))
        status = crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
    crnn_sha256_free(hash);
    free(block);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */

static bool add_entry(json_t *header, const crnn_st_out *tensor, int64_t *at)
{
    json_t *shape = json_array();
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->rank; i++) {
        count *= tensor->shape[i];
        if (json_array_append_new(shape, json_integer(tensor->shape[i])) != 0) {
            json_decref(shape);
            return false;
        }
    }
    int64_t end = *at + count * (int64_t)types[tensor->type].size;
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", types[tensor->type].name, "shape", shape, "data_offsets",
                              (json_int_t)*at, (json_int_t)end);
    *at = end;
    return entry && json_object_set_new(header, tensor->name, entry) == 0;
}

/* The header as text, padded with spaces so that the data begin at a multiple of 8. NULL when out of memory. */
static char *make_header(const crnn_st_out *tensors, int count, const crnn_st_meta *meta, int meta_count)
{
    const crnn_st_out digest = {"sha256", CRNN_ST_U8, 1, {DIGEST}, NULL};
    json_t *header = json_object(), *metadata = json_object();
    int64_t at = 0;
    bool fine = header && metadata;
    for (int i = 0; i < meta_count && fine; i++)
        fine = json_object_set_new(metadata, meta[i].key, json_string(meta[i].value)) == 0;
    fine = fine && json_object_set(header, "__metadata__", metadata) == 0;
    for (int i = 0; i < count && fine; i++)
        fine = add_entry(header, &tensors[i], &at);
    fine = fine && add_entry(header, &digest, &at);
    char *text = fine ? json_dumps(header, JSON_COMPACT) : NULL, *padded = NULL;
    if (text)
        padded = crnn_format("%s%*s", text, (int)((8 - strlen(text) % 8) % 8), "");
    free(text);
    json_decref(metadata);
    json_decref(header);
    return padded;
}

static crnn_status put(int fd, const char *path, crnn_sha256 *hash, const void *data, size_t size, crnn_error *err)
{
    if (!crnn_sha256_add(hash, data, size))
        return crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
    return crnn_write_full(fd, data, size, path, err);
}

crnn_status crnn_st_write(int fd, const char *path, const crnn_st_out *tensors, int count, const crnn_st_meta *meta,
                          int meta_count, uint8_t digest[32], crnn_error *err)
{
    uint8_t own[DIGEST], length[8];
    char *header = make_header(tensors, count, meta, meta_count);
    crnn_sha256 *hash = crnn_sha256_new();
    crnn_status status =
        header && hash ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a checkpoint's header");
    if (status == CRNN_OK) {
        size_t N = strlen(header);
        for (int i = 0; i < 8; i++)
            length[i] = (uint8_t)(N >> (8 * i));
        status = put(fd, path, hash, length, sizeof length, err);
        if (status == CRNN_OK)
            status = put(fd, path, hash, header, N, err);
    }
    for (int i = 0; i < count && status == CRNN_OK; i++) {
        size_t bytes = types[tensors[i].type].size;
        for (int32_t k = 0; k < tensors[i].rank; k++)
            bytes *= (size_t)tensors[i].shape[k];
        status = put(fd, path, hash, tensors[i].data, bytes, err);
    }
    if (status == CRNN_OK && !crnn_sha256_end(hash, own))
        status = crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
    if (status == CRNN_OK)
        status = crnn_write_full(fd, own, sizeof own, path, err);
    if (status == CRNN_OK && digest)
        memcpy(digest, own, sizeof own);
    crnn_sha256_free(hash);
    free(header);
    return status;
}
