/* squeezed.h - texts as UTF-8 with their white space squeezed, for comparing, and the line that each byte of them is on.
 *
 * \r\n and \r become \n; blanks become one, and none is left at either end of a line.
 */
#ifndef CRNN_DATA_SQUEEZED_H
#define CRNN_DATA_SQUEEZED_H

#include <crnn/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    unsigned char *bytes;
    size_t count, capacity;
    int64_t *lines_before; /* of every 16384th byte: the line ends before it, from the start of all */
    int64_t lines;         /* line ends so far */
    bool blank, carried;   /* the last character was white space; it was \r */
    bool open;             /* the last line has no end yet */
} crnn_squeezed;

/* Room for bytes more of UTF-8. Reserved pages that are never written take no memory. */
crnn_status crnn_squeezed_reserve(crnn_squeezed *text, size_t bytes, crnn_error *err);
void crnn_squeezed_free(crnn_squeezed *text);
crnn_status crnn_squeezed_add(crnn_squeezed *text, uint32_t code, crnn_error *err);
/* What follows is another text, which begins at text->count; a last line without an end gets one. */
crnn_status crnn_squeezed_end(crnn_squeezed *text, crnn_error *err);
/* Line ends before the byte at `at`, from the start of all texts. */
int64_t crnn_squeezed_lines_before(const crnn_squeezed *text, size_t at);

#endif
