/* utf8.h - UTF-8 read with care: what crnn_utf8_decode of <crnn/text.h> says, and how much of it was bad. */
#ifndef CRNN_BASE_UTF8_H
#define CRNN_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes one code point of at most size (> 0) bytes. Returns the bytes read, or minus the length of the maximal bad part (Unicode
 * 15, D93b), which is what one U+FFFD stands for, as in Python and in browsers. */
int crnn_utf8_decode_part(const unsigned char *in, size_t size, uint32_t *code);

#endif
