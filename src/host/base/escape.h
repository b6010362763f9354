/* escape.h - paths in messages, made harmless for a terminal as crnn_escape of crnn/text.h does it. */
#ifndef CRNN_BASE_ESCAPE_H
#define CRNN_BASE_ESCAPE_H

#include <crnn/text.h>

enum { CRNN_SHOWN = 240 }; /* bytes of a path in a message, which has 480 */

/* A path as messages show it. Returns out. */
char *crnn_shown(char out[CRNN_SHOWN], const char *path);

#endif
