#include "host/base/escape.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include "host/data/reading.h"
#include <stdlib.h>
#include <string.h>

enum { CODE_SPACE = 0x110000 };

typedef struct {
    crnn_text_file told; /* its path is ours */
    uint8_t digest[32];  /* of the file's bytes */
} corpus_file;

struct crnn_corpus {
    crnn_vocab *vocab;
    corpus_file *files;
    int file_count;
    int64_t unknown;
    uint8_t digest[32];
    crnn_ids train, val; /* their data is ours */
};

/* Ids while they are read: 16 bits each, numbered as the characters were first seen. */
typedef struct {
    uint16_t *data;
    size_t count, capacity;
} growing;

/* All that is needed while a corpus is read, and no longer. */
typedef struct {
    const crnn_text_options *options;
    crnn_corpus *corpus;
    crnn_reading *reading;
    uint32_t
        *number; /* [CODE_SPACE] 1 + the provisional id of a code point, 0 where it has none; touched page by page */
    uint32_t *codes;   /* [CRNN_MAX_VOCAB] of the provisional ids */
    uint32_t distinct; /* may pass CRNN_MAX_VOCAB: then ids are no longer kept, and it is only counted */
    bool closed;       /* characters without a number are dropped and counted, not numbered */
    growing train, val;
    growing *to; /* where the present file's go */
} reader;

crnn_text_options crnn_text_options_default(void)
{
    return (crnn_text_options){.encoding = "utf-8", .invalid = CRNN_INVALID_ERROR, .repeat = 1};
}

static crnn_status check_options(const crnn_text_options *options, crnn_error *err)
{
    if (options->repeat < 1)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a text is repeated at least 1 time, not %ld", (long)options->repeat);
    if (!(options->val_split >= 0 && options->val_split < 1))
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "the held-out fraction lies in [0, 1), %g does not",
                         options->val_split);
    return CRNN_OK;
}

/* Room for more ids. Reserved pages that are never written take no memory, so this may be generous. */
static crnn_status reserve(growing *ids, size_t more, crnn_error *err)
{
    size_t bytes;
    if (ids->capacity - ids->count >= more)
        return CRNN_OK;
    size_t capacity = ids->capacity / 2 * 3 > ids->count + more ? ids->capacity / 2 * 3 : ids->count + more;
    uint16_t *data =
        crnn_mul_size(&bytes, capacity, sizeof *data) && bytes <= PTRDIFF_MAX ? realloc(ids->data, bytes) : NULL;
    if (!data)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %zu characters of text", capacity);
    ids->data = data;
    ids->capacity = capacity;
    return CRNN_OK;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static void reader_close(reader *in)
{
    crnn_reading_free(in->reading);
    free(in->number);
    free(in->codes);
    free(in->train.data);
    free(in->val.data);
}

static crnn_status reader_open(reader *in, const crnn_vocab *vocab, const crnn_text_options *options, crnn_error *err)
{
    crnn_status status = check_options(options, err);
    *in = (reader){.options = options};
    if (status != CRNN_OK)
        return status;
    in->reading = crnn_reading_new(options, err);
    if (!in->reading)
        return err ? err->status : CRNN_ERR_ARGUMENT;
    in->corpus = crnn_alloc(1, sizeof *in->corpus, "a corpus", err);
    in->number = calloc(CODE_SPACE, sizeof *in->number);
    in->codes = malloc(CRNN_MAX_VOCAB * sizeof *in->codes);
    if (!in->corpus || !in->number || !in->codes)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for reading a text");
    for (int32_t v = 0; vocab && v < crnn_vocab_size(vocab); v++) {
        in->codes[v] = crnn_vocab_codes(vocab)[v];
        in->number[in->codes[v]] = ++in->distinct;
        in->closed = true;
    }
    return CRNN_OK;
}

/* Code points to provisional ids, at the end of in->to. */
static crnn_status take(void *user, const uint32_t *codes, size_t count, crnn_error *err)
{
    reader *in = user;
    growing *ids = in->to;
    if (reserve(ids, count, err) != CRNN_OK)
        return CRNN_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        uint32_t number = in->number[codes[i]];
        if (number == 0) {
            if (in->closed) {
                in->corpus->unknown++;
                continue;
            }
            if (in->distinct < CRNN_MAX_VOCAB)
                in->codes[in->distinct] = codes[i];
            number = in->number[codes[i]] = ++in->distinct;
        }
        ids->data[ids->count] = (uint16_t)(number - 1);
        ids->count += in->distinct <= CRNN_MAX_VOCAB;
    }
    return CRNN_OK;
}

/* --- one file --------------------------------------------------------------------------------------------------------- */

/* The last fraction of what came after `start` goes from the training text to the held-out one. */
static crnn_status split(reader *in, size_t start, int64_t *val_characters, crnn_error *err)
{
    size_t count = in->train.count - start;
    /* The small addition makes 0.29 of 100 characters 29: 0.29 * 100 lies just below. */
    size_t held_out = (size_t)(in->options->val_split * (double)count + 1e-6);
    if (reserve(&in->val, held_out, err) != CRNN_OK)
        return CRNN_ERR_MEMORY;
    if (held_out > 0)
        memcpy(in->val.data + in->val.count, in->train.data + in->train.count - held_out,
               held_out * sizeof *in->val.data);
    in->val.count += held_out;
    in->train.count -= held_out;
    *val_characters = (int64_t)held_out;
    return CRNN_OK;
}

/* Puts down what was read since start as one file. */
static crnn_status finish_file(reader *in, const char *path, const crnn_text_facts *facts, size_t start,
                               crnn_error *err)
{
    corpus_file *file = &in->corpus->files[in->corpus->file_count];
    file->told = (crnn_text_file){.path = strdup(path), .bytes = facts->bytes};
    if (!file->told.path)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for reading a text");
    memcpy(file->digest, facts->digest, sizeof file->digest);
    in->corpus->file_count++;
    file->told.val_characters = (int64_t)(in->to->count - start);
    if (in->to == &in->train && split(in, start, &file->told.val_characters, err) != CRNN_OK)
        return CRNN_ERR_MEMORY;
    if (in->to == &in->train)
        file->told.characters = (int64_t)(in->to->count - start);
    return CRNN_OK;
}

static crnn_status read_inputs(reader *in, const crnn_inputs *inputs, bool held_out, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    in->to = held_out ? &in->val : &in->train;
    for (int i = 0; i < inputs->count && status == CRNN_OK; i++) {
        const crnn_input *input = &inputs->items[i];
        crnn_text_facts facts;
        size_t start = in->to->count;
        if (input->skip || input->held_out != held_out)
            continue;
        status = crnn_reading_file(in->reading, input, take, in, &facts, err);
        if (status == CRNN_OK && !facts.skipped)
            status = finish_file(in, input->path, &facts, start, err);
    }
    return status;
}

/* --- the whole -------------------------------------------------------------------------------------------------------- */

static int by_digest(const void *a, const void *b)
{
    const corpus_file *x = *(corpus_file *const *)a, *y = *(corpus_file *const *)b;
    int order = memcmp(x->digest, y->digest, sizeof x->digest);
    return order ? order : (x > y) - (x < y); /* all are entries of one array */
}

/* Text that is there twice is learnt by heart; text both trained on and held out flatters the model. */
static crnn_status note_equal_files(const crnn_corpus *corpus, const crnn_text_options *options, crnn_error *err)
{
    char shown[2][CRNN_SHOWN];
    corpus_file **sorted = crnn_alloc((size_t)corpus->file_count, sizeof(corpus_file *), "the list of files", err);
    if (!sorted)
        return CRNN_ERR_MEMORY;
    for (int i = 0; i < corpus->file_count; i++)
        sorted[i] = &corpus->files[i];
    qsort(sorted, (size_t)corpus->file_count, sizeof(corpus_file *), by_digest);
    for (int i = 1; i < corpus->file_count; i++)
        if (memcmp(sorted[i]->digest, sorted[i - 1]->digest, sizeof sorted[i]->digest) == 0)
            crnn_note(options, "%s and %s hold the same text", crnn_shown(shown[0], sorted[i - 1]->told.path),
                      crnn_shown(shown[1], sorted[i]->told.path));
    free(sorted);
    return CRNN_OK;
}

static int by_code(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the vocabulary; map: [distinct] the final id of each provisional one. */
static crnn_status settle_vocabulary(reader *in, uint16_t *map, crnn_error *err)
{
    if (in->distinct > CRNN_MAX_VOCAB)
        return crnn_fail(err, CRNN_ERR_FORMAT, "the text has %lu distinct characters; at most %d are possible",
                         (unsigned long)in->distinct, CRNN_MAX_VOCAB);
    qsort(in->codes, in->distinct, sizeof *in->codes, by_code);
    for (uint32_t v = 0; v < in->distinct; v++)
        map[in->number[in->codes[v]] - 1] = (uint16_t)v;
    in->corpus->vocab = crnn_vocab_new(in->codes, (int32_t)in->distinct, err);
    return in->corpus->vocab ? CRNN_OK : CRNN_ERR_MEMORY;
}

/* Final ids, as narrow as they can be, `repeat` times, in the memory that holds the provisional ones. */
static crnn_status settle_ids(crnn_ids *out, growing *ids, const uint16_t *map, int32_t V, int32_t repeat,
                              crnn_error *err)
{
    size_t width = V <= 256 ? 1 : 2, once, all;
    uint8_t *narrow = (uint8_t *)ids->data;
    for (size_t i = 0; i < ids->count; i++) {
        uint16_t id = map[ids->data[i]];
        if (width == 1)
            narrow[i] = (uint8_t)id; /* never ahead of what is read */
        else
            ids->data[i] = id;
    }
    if (!crnn_mul_size(&once, ids->count, width) || !crnn_mul_size(&all, once, (size_t)repeat) || all > PTRDIFF_MAX)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: the text %ld times", (long)repeat);
    narrow = realloc(ids->data, all ? all : 1);
    if (!narrow)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %zu bytes for the text", all);
    for (size_t done = once; done < all; done += once)
        memcpy(narrow + done, narrow, once);
    *ids = (growing){0};
    *out = (crnn_ids){.data = narrow, .count = (int64_t)(all / width), .width = (int32_t)width};
    return CRNN_OK;
}

/* See crnn_corpus_sha256. */
static bool digest_corpus(crnn_corpus *corpus)
{
    unsigned char bytes[4096];
    size_t used = 0;
    crnn_sha256 *hash = crnn_sha256_new();
    bool fine = hash;
    for (int64_t i = 0; i < corpus->train.count && fine; i++) {
        uint16_t id = crnn_ids_at(corpus->train, i);
        bytes[used++] = (unsigned char)id;
        bytes[used++] = (unsigned char)(id >> 8);
        if (used == sizeof bytes || i + 1 == corpus->train.count) {
            fine = crnn_sha256_add(hash, bytes, used);
            used = 0;
        }
    }
    for (int32_t v = 0; v < crnn_vocab_size(corpus->vocab) && fine; v++) {
        uint32_t code = crnn_vocab_codes(corpus->vocab)[v];
        for (int byte = 0; byte < 4; byte++)
            bytes[byte] = (unsigned char)(code >> 8 * byte);
        fine = crnn_sha256_add(hash, bytes, 4);
    }
    fine = fine && crnn_sha256_end(hash, corpus->digest);
    crnn_sha256_free(hash);
    return fine;
}

/* Hands the corpus over, or frees it; closes the reader. */
static crnn_corpus *reader_finish(reader *in, crnn_status status, crnn_error *err)
{
    crnn_corpus *corpus = in->corpus;
    uint16_t *map = NULL;
    if (status == CRNN_OK && in->distinct == 0)
        status = crnn_fail(err, CRNN_ERR_FORMAT, "there is no text in what was given");
    if (status == CRNN_OK && !(map = crnn_alloc(CRNN_MAX_VOCAB, sizeof *map, "the vocabulary", err)))
        status = CRNN_ERR_MEMORY;
    if (status == CRNN_OK)
        status = settle_vocabulary(in, map, err);
    if (status == CRNN_OK)
        status = settle_ids(&corpus->train, &in->train, map, (int32_t)in->distinct, in->options->repeat, err);
    if (status == CRNN_OK)
        status = settle_ids(&corpus->val, &in->val, map, (int32_t)in->distinct, 1, err);
    if (status == CRNN_OK && !digest_corpus(corpus))
        status = crnn_fail(err, CRNN_ERR_MEMORY, "SHA-256 failed");
    free(map);
    reader_close(in);
    if (status == CRNN_OK)
        return corpus;
    crnn_corpus_free(corpus);
    return NULL;
}

static crnn_status read_all(reader *in, const crnn_inputs *inputs, crnn_error *err)
{
    int64_t bytes = 0;
    for (int i = 0; i < inputs->count; i++)
        if (!inputs->items[i].skip && !inputs->items[i].held_out)
            bytes += inputs->items[i].bytes;
    in->corpus->files = crnn_alloc((size_t)inputs->count, sizeof *in->corpus->files, "the list of files", err);
    if (!in->corpus->files)
        return CRNN_ERR_MEMORY;
    /* No encoding has more characters than bytes, or take() grows it. */
    crnn_status status = reserve(&in->train, (size_t)bytes, err);
    if (status == CRNN_OK)
        status = read_inputs(in, inputs, false, err);
    in->closed = true; /* the vocabulary is that of the training files */
    if (status == CRNN_OK)
        status = read_inputs(in, inputs, true, err);
    crnn_reading_tell_skipped(in->reading);
    return status == CRNN_OK ? note_equal_files(in->corpus, in->options, err) : status;
}

static crnn_corpus *read_corpus(const crnn_vocab *vocab, const char *const *paths, int count,
                                const char *const *val_paths, int val_count, const crnn_text_options *options,
                                crnn_error *err)
{
    const crnn_text_options standard = crnn_text_options_default();
    crnn_inputs inputs = {0};
    reader in;
    crnn_status status = reader_open(&in, vocab, options ? options : &standard, err);
    if (status == CRNN_OK && count < 1)
        status = crnn_fail(err, CRNN_ERR_ARGUMENT, "no text was given");
    if (status == CRNN_OK)
        status = crnn_inputs_find(&inputs, paths, count, val_paths, val_count, in.options, err);
    if (status == CRNN_OK)
        status = read_all(&in, &inputs, err);
    crnn_inputs_free(&inputs);
    return reader_finish(&in, status, err);
}

crnn_corpus *crnn_corpus_read(const char *const *paths, int count, const char *const *val_paths, int val_count,
                              const crnn_text_options *options, crnn_error *err)
{
    return read_corpus(NULL, paths, count, val_paths, val_count, options, err);
}

crnn_corpus *crnn_corpus_read_with(const crnn_vocab *vocab, const char *const *paths, int count,
                                   const crnn_text_options *options, crnn_error *err)
{
    return read_corpus(vocab, paths, count, NULL, 0, options, err);
}

crnn_corpus *crnn_corpus_from_text(const char *utf8, size_t bytes, const crnn_text_options *options, crnn_error *err)
{
    crnn_text_options own = options ? *options : crnn_text_options_default();
    own.encoding = "utf-8";
    reader in;
    crnn_text_facts facts;
    crnn_status status = reader_open(&in, NULL, &own, err);
    in.to = &in.train;
    if (status == CRNN_OK && !(in.corpus->files = crnn_alloc(1, sizeof *in.corpus->files, "the list of files", err)))
        status = CRNN_ERR_MEMORY;
    if (status == CRNN_OK)
        status = reserve(&in.train, bytes, err);
    if (status == CRNN_OK)
        status = crnn_reading_memory(in.reading, "the text", utf8, bytes, take, &in, &facts, err);
    if (status == CRNN_OK)
        status = finish_file(&in, "the text", &facts, 0, err);
    return reader_finish(&in, status, err);
}

void crnn_corpus_free(crnn_corpus *corpus)
{
    if (!corpus)
        return;
    for (int i = 0; i < corpus->file_count; i++)
        free((void *)(uintptr_t)corpus->files[i].told.path);
    free(corpus->files);
    free((void *)(uintptr_t)corpus->train.data);
    free((void *)(uintptr_t)corpus->val.data);
    crnn_vocab_free(corpus->vocab);
    free(corpus);
}

/* --- looking at it ---------------------------------------------------------------------------------------------------- */

const crnn_vocab *crnn_corpus_vocab(const crnn_corpus *corpus)
{
    return corpus->vocab;
}

int crnn_corpus_file_count(const crnn_corpus *corpus)
{
    return corpus->file_count;
}

crnn_text_file crnn_corpus_file(const crnn_corpus *corpus, int index)
{
    return corpus->files[index].told;
}

int64_t crnn_corpus_unknown(const crnn_corpus *corpus)
{
    return corpus->unknown;
}

const uint8_t *crnn_corpus_sha256(const crnn_corpus *corpus)
{
    return corpus->digest;
}

crnn_ids crnn_corpus_train(const crnn_corpus *corpus)
{
    return corpus->train;
}

crnn_ids crnn_corpus_val(const crnn_corpus *corpus)
{
    return corpus->val;
}

uint16_t crnn_ids_at(crnn_ids ids, int64_t index)
{
    return ids.width == 1 ? ((const uint8_t *)ids.data)[index] : ((const uint16_t *)ids.data)[index];
}
