/* text.h - text to numbers: files are decoded to code points, code points become ids by way of a vocabulary.
 *
 * A character is a Unicode code point. The vocabulary is the sorted set of the distinct ones, so that ids are in
 * code-point order. All functions that return an object give it to the caller, who frees it with its _free.
 */
#ifndef CRNN_TEXT_H
#define CRNN_TEXT_H

#include <crnn/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CRNN_MAX_VOCAB = 65535 }; /* ids are 16 bits wide; 65535 itself is CRNN_NO_ID */
#define CRNN_NO_ID ((uint16_t)65535)

typedef struct crnn_vocab crnn_vocab;

/* codes: [V] code points, strictly ascending, each a valid scalar value; copied. NULL with err otherwise. */
crnn_vocab *crnn_vocab_new(const uint32_t *codes, int32_t V, crnn_error *err);
void crnn_vocab_free(crnn_vocab *vocab);
int32_t crnn_vocab_size(const crnn_vocab *vocab);
const uint32_t *crnn_vocab_codes(const crnn_vocab *vocab);      /* [V], lives as long as vocab */
uint16_t crnn_vocab_id(const crnn_vocab *vocab, uint32_t code); /* CRNN_NO_ID where it has none */

/* How text is read. */
typedef enum { CRNN_INVALID_ERROR, CRNN_INVALID_REPLACE } crnn_invalid;
typedef struct {
    const char *encoding; /* "utf-8", or a name iconv knows */
    crnn_invalid invalid; /* what bytes that are no text mean: an error, or U+FFFD */
    int32_t repeat;       /* the whole text this many times, >= 1 */
    double val_split;     /* last fraction of each file held out, in [0, 1) */
    /* Told of each note for a person (a dropped byte-order mark, a skipped file, two equal inputs); may be NULL. */
    void (*note)(void *user, const char *sentence);
    void *user;
} crnn_text_options;
crnn_text_options crnn_text_options_default(void); /* utf-8, error, 1, 0, NULL */

/* One input file as it was read. */
typedef struct {
    const char *path;
    int64_t bytes, characters; /* characters of this file that are trained on (once) */
    int64_t val_characters;    /* characters of it that are held out */
} crnn_text_file;

typedef struct crnn_corpus crnn_corpus;

/* Reads files, directories and quoted globs, in the order given, into one sequence of ids.
 * paths: [count]. Directories (not recursive) and globs are taken in byte order of their names, regular files only,
 * each once by device and inode; there a file with NUL bytes is skipped with a note. val_paths: [val_count] (may be 0) held-out
 * texts; their characters that the vocabulary lacks are dropped and counted. The vocabulary is that of all of paths, held-out
 * fractions included. Errors: CRNN_ERR_IO (cannot be read), CRNN_ERR_FORMAT (bad bytes: file and byte
 * offset; empty; more than 65,535 distinct characters: the count). Memory: within three times the size of the files. */
crnn_corpus *crnn_corpus_read(const char *const *paths, int count, const char *const *val_paths, int val_count,
                              const crnn_text_options *options, crnn_error *err);
/* As above, but encodes with a given vocabulary (copied); characters that it lacks are dropped and counted. */
crnn_corpus *crnn_corpus_read_with(const crnn_vocab *vocab, const char *const *paths, int count,
                                   const crnn_text_options *options, crnn_error *err);
/* A corpus from UTF-8 text in memory. */
crnn_corpus *crnn_corpus_from_text(const char *utf8, size_t bytes, const crnn_text_options *options, crnn_error *err);
void crnn_corpus_free(crnn_corpus *corpus);

const crnn_vocab *crnn_corpus_vocab(const crnn_corpus *corpus);
int crnn_corpus_file_count(const crnn_corpus *corpus);
crnn_text_file crnn_corpus_file(const crnn_corpus *corpus, int index); /* path lives as long as corpus */
int64_t crnn_corpus_unknown(const crnn_corpus *corpus);                /* characters dropped as unknown */
/* SHA-256 of the training ids as 16-bit little-endian numbers, then of the vocabulary as 32-bit ones: what a continued run compares. */
const uint8_t *crnn_corpus_sha256(const crnn_corpus *corpus); /* [32] */

/* A sequence of ids, 8 bits wide where V <= 256, else 16; lives as long as its corpus. */
typedef struct {
    const void *data;
    int64_t count;
    int32_t width; /* bytes an id: 1 or 2 */
} crnn_ids;
crnn_ids crnn_corpus_train(const crnn_corpus *corpus);
crnn_ids crnn_corpus_val(const crnn_corpus *corpus); /* count 0 where nothing is held out */
uint16_t crnn_ids_at(crnn_ids ids, int64_t index);

/* Python's repr of a run of code points, quotes included, as UTF-8. Returns the bytes needed without the final NUL;
 * writes at most size bytes with it. */
size_t crnn_repr(char *out, size_t size, const uint32_t *codes, size_t count);

/* Is code one that a terminal must not get raw (C0 and C1 controls, DEL, bidirectional and line separators)? */
bool crnn_is_control(uint32_t code);
/* Writes text (bytes, valid UTF-8 or not) made harmless for a terminal into out: control characters as ^X or <U+202E>, invalid bytes as \xNN;
 * always ends with NUL, cut with "..." where it does not fit. keep_newlines leaves \n and \t as they are. Returns out. */
char *crnn_escape(char *out, size_t size, const char *text, size_t bytes, bool keep_newlines);

/* UTF-8 of one code point: writes 1 to 4 bytes and returns how many. */
int crnn_utf8_encode(char out[4], uint32_t code);
/* Decodes one code point of at most size bytes (size > 0). Returns the bytes read, 0 where they are not valid UTF-8
 * (overlong forms, surrogates and truncation included). */
int crnn_utf8_decode(const char *in, size_t size, uint32_t *code);

#ifdef __cplusplus
}
#endif
#endif
