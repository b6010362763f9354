/* escape.h - text from outside made harmless for a terminal: control characters and bidirectional overrides in caret form. */
#ifndef CRNN_BASE_ESCAPE_H
#define CRNN_BASE_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CRNN_SHOWN = 240 }; /* bytes of a path in a message, which has 480 */

/* Is code one that a terminal must not get raw (C0 and C1 controls, DEL, bidirectional and line separators)? */
bool crnn_is_control(uint32_t code);
/* Writes text (bytes, valid UTF-8 or not) escaped into out: control characters as ^X or <U+202E>, invalid bytes as \xNN; always ends with NUL,
 * cut with "..." where it does not fit. keep_newlines leaves \n and \t as they are. Returns out. */
char *crnn_escape(char *out, size_t size, const char *text, size_t bytes, bool keep_newlines);

/* A path as messages show it. Returns out. */
char *crnn_shown(char out[CRNN_SHOWN], const char *path);

#endif
