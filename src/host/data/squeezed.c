#include "host/data/squeezed.h"
#include <crnn/text.h>
#include <stdlib.h>

enum { MARK = 1 << 14 };

crnn_status crnn_squeezed_reserve(crnn_squeezed *text, size_t bytes, crnn_error *err)
{
    if (text->capacity - text->count >= bytes)
        return CRNN_OK;
    size_t more = text->count / 2 > bytes ? text->count / 2 : bytes, capacity = text->count + more;
    if (capacity < more || capacity > PTRDIFF_MAX)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: more text than can be addressed");
    unsigned char *grown = realloc(text->bytes, capacity);
    if (grown)
        text->bytes = grown;
    int64_t *marks = realloc(text->lines_before, (capacity / MARK + 1) * sizeof *marks);
    if (marks)
        text->lines_before = marks;
    if (!grown || !marks)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %zu bytes of text", capacity);
    text->capacity = capacity;
    return CRNN_OK;
}

void crnn_squeezed_free(crnn_squeezed *text)
{
    free(text->bytes);
    free(text->lines_before);
    *text = (crnn_squeezed){0};
}

static void put(crnn_squeezed *text, unsigned char byte)
{
    if (text->count % MARK == 0)
        text->lines_before[text->count / MARK] = text->lines;
    text->bytes[text->count++] = byte;
}

crnn_status crnn_squeezed_add(crnn_squeezed *text, uint32_t code, crnn_error *err)
{
    char bytes[4];
    bool after_return = text->carried;
    if (text->capacity - text->count < 5 && crnn_squeezed_reserve(text, 5, err) != CRNN_OK)
        return CRNN_ERR_MEMORY;
    text->carried = code == '\r';
    if (code == '\n' && after_return)
        return CRNN_OK;
    if (code == '\n' || code == '\r') {
        put(text, '\n');
        text->lines++;
        text->blank = true; /* nothing is left at the begin of a line */
        text->open = false;
        return CRNN_OK;
    }
    text->open = true;
    if (code == ' ' || code == '\t') {
        text->blank = true;
        return CRNN_OK;
    }
    if (text->blank && text->count > 0 && text->bytes[text->count - 1] != '\n')
        put(text, ' ');
    text->blank = false;
    int length = crnn_utf8_encode(bytes, code);
    for (int i = 0; i < length; i++)
        put(text, (unsigned char)bytes[i]);
    return CRNN_OK;
}

crnn_status crnn_squeezed_end(crnn_squeezed *text, crnn_error *err)
{
    text->carried = false;
    if (text->open) /* be there nothing but blanks on it */
        return crnn_squeezed_add(text, '\n', err);
    text->blank = false;
    return CRNN_OK;
}

int64_t crnn_squeezed_lines_before(const crnn_squeezed *text, size_t at)
{
    int64_t lines = text->lines_before[at / MARK];
    for (size_t i = at / MARK * MARK; i < at; i++)
        lines += text->bytes[i] == '\n';
    return lines;
}
