/* reading.h - texts, one after another, from files or memory, through a decoder to whoever takes their characters. */
#ifndef CRNN_DATA_READING_H
#define CRNN_DATA_READING_H

#include "host/data/decode.h"
#include "host/data/inputs.h"

typedef struct crnn_reading crnn_reading;

/* Takes the next characters of a text. codes: [count], valid during the call. */
typedef crnn_status (*crnn_take)(void *user, const uint32_t *codes, size_t count, crnn_error *err);

/* What is known of a text when it was read. */
typedef struct {
    bool skipped; /* empty, or binary, and not named by the caller: nothing was taken of it */
    int64_t bytes;
    uint8_t digest[32]; /* SHA-256 of its bytes */
} crnn_text_facts;

/* options: borrowed, with its strings. */
crnn_reading *crnn_reading_new(const crnn_text_options *options, crnn_error *err);
void crnn_reading_free(crnn_reading *reading);
crnn_decoder *crnn_reading_decoder(crnn_reading *reading); /* borrowed */

/* Reads one file whole: CRNN_ERR_IO where it cannot be read or changes meanwhile, CRNN_ERR_FORMAT for an empty one that the caller named, for bytes
 * that are no text (options->invalid), or what take returns. A byte-order mark at its start is dropped, with a note. */
crnn_status crnn_reading_file(crnn_reading *reading, const crnn_input *input, crnn_take take, void *user,
                              crnn_text_facts *facts, crnn_error *err);
/* The same with text in memory. name: for errors. */
crnn_status crnn_reading_memory(crnn_reading *reading, const char *name, const char *text, size_t bytes, crnn_take take,
                                void *user, crnn_text_facts *facts, crnn_error *err);
/* Notes the files that were skipped so far. */
void crnn_reading_tell_skipped(crnn_reading *reading);

#endif
