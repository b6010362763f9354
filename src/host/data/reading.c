#include "host/data/reading.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 16, CODES = BLOCK + 64, BYTE_ORDER_MARK = 0xFEFF };

struct crnn_reading {
    const crnn_text_options *options;
    crnn_decoder *decoder;
    crnn_sha256 *hash;
    unsigned char *block; /* [BLOCK] */
    uint32_t *decoded;    /* [CODES] */
    crnn_skipped binary, empty;
};

crnn_reading *crnn_reading_new(const crnn_text_options *options, crnn_error *err)
{
    crnn_reading *reading = crnn_alloc(1, sizeof *reading, "reading a text", err);
    if (!reading)
        return NULL;
    reading->options = options;
    reading->decoder = crnn_decoder_new(options->encoding, options->invalid, err);
    if (!reading->decoder)
        goto fail;
    reading->hash = crnn_sha256_new();
    reading->block = malloc(BLOCK);
    reading->decoded = malloc(CODES * sizeof *reading->decoded);
    if (reading->hash && reading->block && reading->decoded)
        return reading;
    crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for reading a text");
fail:
    crnn_reading_free(reading);
    return NULL;
}

void crnn_reading_free(crnn_reading *reading)
{
    if (!reading)
        return;
    crnn_decoder_free(reading->decoder);
    crnn_sha256_free(reading->hash);
    free(reading->block);
    free(reading->decoded);
    free(reading);
}

crnn_decoder *crnn_reading_decoder(crnn_reading *reading)
{
    return reading->decoder;
}

void crnn_reading_tell_skipped(crnn_reading *reading)
{
    crnn_skipped_tell(&reading->binary, "", " with NUL bytes", reading->options);
    crnn_skipped_tell(&reading->empty, "empty ", "", reading->options);
}

/* A source of bytes: a file, or memory. */
typedef struct {
    int fd; /* -1: memory */
    const char *path;
    const char *memory;
    int64_t left; /* bytes still to come */
    bool zeros;   /* a zero byte was seen */
} source;

/* The next bytes of from, at most size, into block. */
static crnn_status fill(crnn_reading *in, source *from, unsigned char *block, size_t size, size_t *got, crnn_error *err)
{
    *got = from->left < (int64_t)size ? (size_t)from->left : size;
    if (from->fd < 0) {
        memcpy(block, from->memory, *got);
        from->memory += *got;
    } else if (crnn_read_full(from->fd, block, *got, from->path, err) != CRNN_OK) {
        return err ? err->status : CRNN_ERR_IO;
    }
    from->left -= (int64_t)*got;
    from->zeros = from->zeros || memchr(block, 0, *got);
    if (!crnn_sha256_add(in->hash, block, *got))
        return crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
    return CRNN_OK;
}

/* The whole of from, decoded, to take. */
static crnn_status read_source(crnn_reading *in, source *from, crnn_take take, void *user, crnn_error *err)
{
    size_t held = 0, got, used, count;
    bool begun = false, last = false;
    crnn_decoder_begin(in->decoder, from->path);
    do {
        crnn_status status = fill(in, from, in->block + held, BLOCK - held, &got, err);
        if (status != CRNN_OK)
            return status;
        held += got;
        last = held == 0; /* the decoder has all of it: what it still keeps back comes with this call */
        status =
            crnn_decoder_run(in->decoder, in->decoded, CODES, &count, in->block, held, from->left == 0, &used, err);
        if (status != CRNN_OK)
            return status;
        held -= used;
        memmove(in->block, in->block + used, held);
        const bool marked = !begun && count > 0 && in->decoded[0] == BYTE_ORDER_MARK;
        if (marked) {
            char shown[CRNN_SHOWN];
            crnn_note(in->options, "dropped the byte-order mark at the start of %s", crnn_shown(shown, from->path));
        }
        begun = begun || count > 0;
        status = take(user, in->decoded + marked, count - marked, err);
        if (status != CRNN_OK)
            return status;
    } while (!last);
    return CRNN_OK;
}

/* --- one file --------------------------------------------------------------------------------------------------------- */

/* Is there a zero byte in the file, and so no text? Leaves fd at its start. */
static crnn_status is_binary(crnn_reading *in, int fd, const char *path, int64_t bytes, bool *binary, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    *binary = false;
    for (int64_t left = bytes; left > 0 && !*binary;) {
        size_t size = left < BLOCK ? (size_t)left : BLOCK;
        crnn_status status = crnn_read_full(fd, in->block, size, path, err);
        if (status != CRNN_OK)
            return status;
        *binary = memchr(in->block, 0, size) != NULL;
        left -= (int64_t)size;
    }
    if (lseek(fd, 0, SEEK_SET) != 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot read %s: %s", crnn_shown(shown, path), strerror(errno));
    return CRNN_OK;
}

/* An error where the file is not what it was when it was opened. */
static crnn_status check_unchanged(int fd, const char *path, const struct stat *before, crnn_error *err)
{
    char shown[CRNN_SHOWN], extra;
    struct stat after;
    if (read(fd, &extra, 1) == 1)
        return crnn_fail(err, CRNN_ERR_IO, "%s grew while it was read", crnn_shown(shown, path));
    if (fstat(fd, &after) != 0 || after.st_size != before->st_size || after.st_mtim.tv_sec != before->st_mtim.tv_sec ||
        after.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
        return crnn_fail(err, CRNN_ERR_IO, "%s changed while it was read", crnn_shown(shown, path));
    return CRNN_OK;
}

static crnn_status finish(crnn_reading *in, int64_t bytes, crnn_text_facts *facts, crnn_error *err)
{
    facts->bytes = bytes;
    if (!crnn_sha256_end(in->hash, facts->digest))
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for reading a text");
    return CRNN_OK;
}

static crnn_status read_open_file(crnn_reading *in, int fd, const crnn_input *input, crnn_take take, void *user,
                                  crnn_text_facts *facts, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    struct stat info;
    bool binary = false;
    crnn_status status = CRNN_OK;
    if (fstat(fd, &info) != 0)
        return crnn_fail(err, CRNN_ERR_IO, "cannot read %s: %s", crnn_shown(shown, input->path), strerror(errno));
    if (info.st_size == 0 && input->named)
        return crnn_fail(err, CRNN_ERR_FORMAT, "%s is empty", crnn_shown(shown, input->path));
    if (!input->named && !crnn_decoder_has_zero_bytes(in->decoder))
        status = is_binary(in, fd, input->path, (int64_t)info.st_size, &binary, err);
    if (status != CRNN_OK)
        return status;
    facts->skipped = binary || info.st_size == 0;
    if (facts->skipped) {
        crnn_skipped_add(binary ? &in->binary : &in->empty, input->path);
        return CRNN_OK;
    }
    source from = {.fd = fd, .path = input->path, .left = (int64_t)info.st_size};
    status = read_source(in, &from, take, user, err);
    if (status == CRNN_OK)
        status = check_unchanged(fd, input->path, &info, err);
    if (status == CRNN_OK && from.zeros && !crnn_decoder_has_zero_bytes(in->decoder))
        crnn_note(in->options, "%s has NUL characters, which are kept: is it a text?", crnn_shown(shown, input->path));
    return status == CRNN_OK ? finish(in, (int64_t)info.st_size, facts, err) : status;
}

crnn_status crnn_reading_file(crnn_reading *reading, const crnn_input *input, crnn_take take, void *user,
                              crnn_text_facts *facts, crnn_error *err)
{
    crnn_error own;
    err = err ? err : &own; /* crnn_open_regular tells its status there alone */
    *facts = (crnn_text_facts){0};
    int fd = crnn_open_regular(input->path, NULL, err);
    if (fd < 0)
        return err->status;
    crnn_status status = read_open_file(reading, fd, input, take, user, facts, err);
    close(fd);
    return status;
}

crnn_status crnn_reading_memory(crnn_reading *reading, const char *name, const char *text, size_t bytes, crnn_take take,
                                void *user, crnn_text_facts *facts, crnn_error *err)
{
    source from = {.fd = -1, .path = name, .memory = text, .left = (int64_t)bytes};
    *facts = (crnn_text_facts){0};
    crnn_status status = read_source(reading, &from, take, user, err);
    return status == CRNN_OK ? finish(reading, (int64_t)bytes, facts, err) : status;
}
