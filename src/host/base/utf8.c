#include "host/base/utf8.h"
#include <crnn/text.h>

int crnn_utf8_decode_part(const unsigned char *in, size_t size, uint32_t *code)
{
    unsigned char first = in[0];
    if (first < 0x80) {
        *code = first;
        return 1;
    }
    if (first < 0xC2 || first > 0xF4)
        return -1;
    int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    /* The second byte's range excludes overlong forms (E0, F0), surrogates (ED) and what lies above U+10FFFF (F4). */
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    uint32_t value = first & (0x7FU >> length);
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size || in[i] < low || in[i] > high)
            return -i;
        value = value << 6 | (in[i] & 0x3FU);
        low = 0x80;
        high = 0xBF;
    }
    *code = value;
    return length;
}

int crnn_utf8_decode(const char *in, size_t size, uint32_t *code)
{
    int length = crnn_utf8_decode_part((const unsigned char *)in, size, code);
    return length > 0 ? length : 0;
}

int crnn_utf8_encode(char out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)((0xF00U >> length & 0xFF) | code);
    return length;
}
