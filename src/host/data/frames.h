/* frames.h - lines that publishers of e-books put around a text: Project Gutenberg's and those of others. */
#ifndef CRNN_DATA_FRAMES_H
#define CRNN_DATA_FRAMES_H

#include <stddef.h>

typedef enum {
    CRNN_FRAME_BEGIN, /* the text begins after this line */
    CRNN_FRAME_END,   /* the text ended before this line */
    CRNN_FRAME_NAME   /* the publisher is named, or its address */
} crnn_frame_part;

typedef struct {
    const char *mark; /* in small letters; part of a line */
    const char *publisher;
    crnn_frame_part part;
} crnn_frame;

/* The frame that a line belongs to, or NULL. line: ended by NUL, its ASCII letters small. */
const crnn_frame *crnn_frame_of(const char *line);

#endif
