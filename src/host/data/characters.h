/* characters.h - findings about single characters and lines of a text, from one pass over it. */
#ifndef CRNN_DATA_CHARACTERS_H
#define CRNN_DATA_CHARACTERS_H

#include "host/data/findings.h"

typedef struct crnn_characters crnn_characters;

crnn_characters *crnn_characters_new(crnn_error *err);
void crnn_characters_free(crnn_characters *look);

/* A file begins, and is taken character by character: code may be CRNN_BAD_CODE + byte (decode.h); line: from 1, that it is on. */
void crnn_characters_begin(crnn_characters *look);
crnn_status crnn_characters_take(crnn_characters *look, int file, bool held_out, uint32_t code, int64_t line,
                                 crnn_error *err);
/* Adds what the file gave. lines: how many it has. */
crnn_status crnn_characters_end(crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files, int file,
                                int64_t lines, crnn_error *err);
/* Adds what all files together gave. */
crnn_status crnn_characters_finish(crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files,
                                   crnn_error *err);

#endif
