#include "host/base/memory.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool crnn_mul_size(size_t *product, size_t a, size_t b)
{
    if (__builtin_mul_overflow(a, b, product)) {
        *product = SIZE_MAX;
        return false;
    }
    return true;
}

void *crnn_alloc(size_t count, size_t item, const char *what, crnn_error *err)
{
    size_t bytes;
    void *memory = NULL;
    if (crnn_mul_size(&bytes, count, item) && bytes <= SIZE_MAX / 2) {
        bytes = (bytes + 63) / 64 * 64;
        memory = aligned_alloc(64, bytes ? bytes : 64);
    }
    if (!memory) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
        return NULL;
    }
    return memset(memory, 0, bytes ? bytes : 64);
}

char *crnn_format(const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    return length < 0 ? NULL : text;
}
