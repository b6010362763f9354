#include "host/base/escape.h"
#include <stdio.h>
#include <string.h>

bool crnn_is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C || code == 0x200E || code == 0x200F ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

/* The escaped form of what text begins with. Returns the bytes of text that it stands for. */
static size_t escape_one(char piece[16], const char *text, size_t bytes, bool keep_newlines)
{
    uint32_t code;
    int length = crnn_utf8_decode(text, bytes, &code);
    if (length == 0) {
        snprintf(piece, 16, "\\x%02x", (unsigned)(unsigned char)text[0]);
        return 1;
    }
    if (!crnn_is_control(code) || (keep_newlines && (code == '\n' || code == '\t'))) {
        memcpy(piece, text, (size_t)length);
        piece[length] = '\0';
    } else if (code < 0x80) {
        snprintf(piece, 16, "^%c", (char)(code ^ 0x40));
    } else {
        snprintf(piece, 16, "<U+%04X>", (unsigned)code);
    }
    return (size_t)length;
}

char *crnn_escape(char *out, size_t size, const char *text, size_t bytes, bool keep_newlines)
{
    size_t used = 0, cut = 0; /* cut: the last end of a piece that leaves room for "..." */
    if (size == 0)
        return out;
    while (bytes > 0) {
        char piece[16];
        size_t read = escape_one(piece, text, bytes, keep_newlines), length = strlen(piece);
        if (used + length >= size) {
            size_t dots = size - 1 - cut < 3 ? size - 1 - cut : 3;
            memcpy(out + cut, "...", dots);
            used = cut + dots;
            break;
        }
        memcpy(out + used, piece, length);
        used += length;
        if (used + 4 <= size)
            cut = used;
        text += read;
        bytes -= read;
    }
    out[used] = '\0';
    return out;
}

char *crnn_shown(char out[CRNN_SHOWN], const char *path)
{
    return crnn_escape(out, CRNN_SHOWN, path, strlen(path), false);
}
