/* memory.h - sizes that cannot overflow and allocations that fail with a sentence. */
#ifndef CRNN_BASE_MEMORY_H
#define CRNN_BASE_MEMORY_H

#include <crnn/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *product = a * b; false where that does not fit (then *product is SIZE_MAX). The one checked multiply of the project. */
bool crnn_mul_size(size_t *product, size_t a, size_t b);

/* Zeroed memory for count items of item bytes, aligned to 64 bytes; free with free(). NULL with err, which names `what`. */
void *crnn_alloc(size_t count, size_t item, const char *what, crnn_error *err);

/* malloc'd, printf-formatted. NULL when out of memory. */
char *crnn_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
