/* passages.h - which passages of a text occurred before in it.
 *
 * After Bentley and McIlroy, "Data compression using long common strings" (DCC 1999): the fingerprints of blocks that do not overlap are kept, and
 * a window that rolls over every byte looks for them. So every repeat of CRNN_PASSAGE bytes or more of something original is found, in linear
 * time, with a table of about half the text's size. A line's end counts as a blank: a paragraph that was wrapped anew is the same one.
 */
#ifndef CRNN_DATA_PASSAGES_H
#define CRNN_DATA_PASSAGES_H

#include <crnn/error.h>
#include <stddef.h>
#include <stdint.h>

enum { CRNN_PASSAGE = 120 };

typedef struct {
    int64_t at, length; /* bytes */
    int64_t first;      /* where the same stands for the first time: no part of that is itself a repeat */
} crnn_passage;

/* found: malloc'd, in order, none overlapping another; *count of them. text: parts that end at ends[0..parts), which no passage crosses. */
crnn_status crnn_passages_find(crnn_passage **found, size_t *count, const unsigned char *text, const int64_t *ends,
                               int parts, crnn_error *err);

#endif
