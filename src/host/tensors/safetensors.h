/* safetensors.h - one file of named tensors: 8 bytes of header length, a JSON header, the data.
 *
 * Reading trusts nothing: limits come before allocations (docs/CHECKPOINT.md, "Reading"). Knows nothing of models.
 */
#ifndef CRNN_TENSORS_SAFETENSORS_H
#define CRNN_TENSORS_SAFETENSORS_H

#include <crnn/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { CRNN_ST_U8, CRNN_ST_I32, CRNN_ST_I64, CRNN_ST_F16, CRNN_ST_BF16, CRNN_ST_F32, CRNN_ST_F64 } crnn_st_type;

typedef struct {
    char name[96];
    crnn_st_type type;
    int32_t rank; /* 0 to 4 */
    int64_t shape[4];
    int64_t count; /* elements */
    int64_t begin; /* byte offset in the file */
    int64_t bytes;
} crnn_st_tensor;

typedef struct crnn_st_file crnn_st_file;

/* Opens and checks the header; the data stay in the file. CRNN_ERR_FORMAT says what is wrong. */
crnn_st_file *crnn_st_open(const char *path, crnn_error *err);
void crnn_st_close(crnn_st_file *file);
int crnn_st_count(const crnn_st_file *file);
const crnn_st_tensor *crnn_st_at(const crnn_st_file *file, int index);          /* in file order */
const crnn_st_tensor *crnn_st_find(const crnn_st_file *file, const char *name); /* NULL where it has none */
const char *crnn_st_metadata(const crnn_st_file *file, const char *key);        /* NULL where it has none */
int64_t crnn_st_size(const crnn_st_file *file);                                 /* bytes of the file */
/* Reads elements [first, first + count) of a tensor as they are stored (little-endian). */
crnn_status crnn_st_read(crnn_st_file *file, const crnn_st_tensor *tensor, void *data, crnn_error *err);
/* The same as floats, from F64, F32, F16 or BF16. out: [tensor->count]. */
crnn_status crnn_st_read_floats(crnn_st_file *file, const crnn_st_tensor *tensor, float *out, crnn_error *err);
/* The same as doubles (for oracles in tests). */
crnn_status crnn_st_read_doubles(crnn_st_file *file, const crnn_st_tensor *tensor, double *out, crnn_error *err);
/* SHA-256 of all bytes before the last 32, beside those last 32. */
crnn_status crnn_st_digest(crnn_st_file *file, uint8_t computed[32], uint8_t stored[32], crnn_error *err);

/* What is written: tensors in order, each with its data. */
typedef struct {
    const char *name;
    crnn_st_type type;
    int32_t rank;
    int64_t shape[4];
    const void *data; /* borrowed until written */
} crnn_st_out;

typedef struct {
    const char *key, *value;
} crnn_st_meta;

/* Writes everything to descriptor fd, then the SHA-256 of all of it as a last tensor `sha256` (U8[32]). digest (may be NULL) gets it. path: for err. */
crnn_status crnn_st_write(int fd, const char *path, const crnn_st_out *tensors, int count, const crnn_st_meta *meta,
                          int meta_count, uint8_t digest[32], crnn_error *err);
size_t crnn_st_type_size(crnn_st_type type);

#endif
