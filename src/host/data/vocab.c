#include "host/base/memory.h"
#include <crnn/text.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct crnn_vocab {
    int32_t V;
    uint32_t codes[]; /* [V] ascending */
};

static bool is_scalar(uint32_t code)
{
    return code < 0xD800 || (code > 0xDFFF && code < 0x110000);
}

crnn_vocab *crnn_vocab_new(const uint32_t *codes, int32_t V, crnn_error *err)
{
    if (V < 1 || V > CRNN_MAX_VOCAB) {
        crnn_fail(err, CRNN_ERR_FORMAT, "a vocabulary has 1 to %d characters, not %ld", CRNN_MAX_VOCAB, (long)V);
        return NULL;
    }
    for (int32_t v = 0; v < V; v++) {
        if (!is_scalar(codes[v]) || (v > 0 && codes[v] <= codes[v - 1])) {
            crnn_fail(err, CRNN_ERR_FORMAT, "entry %ld of the vocabulary, %#lx, is %s", (long)v,
                      (unsigned long)codes[v],
                      is_scalar(codes[v]) ? "not above the one before it" : "no Unicode character");
            return NULL;
        }
    }
    crnn_vocab *vocab = crnn_alloc(1, sizeof *vocab + (size_t)V * sizeof *codes, "a vocabulary", err);
    if (!vocab)
        return NULL;
    vocab->V = V;
    memcpy(vocab->codes, codes, (size_t)V * sizeof *codes);
    return vocab;
}

void crnn_vocab_free(crnn_vocab *vocab)
{
    free(vocab);
}

int32_t crnn_vocab_size(const crnn_vocab *vocab)
{
    return vocab->V;
}

const uint32_t *crnn_vocab_codes(const crnn_vocab *vocab)
{
    return vocab->codes;
}

uint16_t crnn_vocab_id(const crnn_vocab *vocab, uint32_t code)
{
    int32_t low = 0, high = vocab->V; /* the first entry >= code lies in [low, high] */
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (vocab->codes[middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < vocab->V && vocab->codes[low] == code ? (uint16_t)low : CRNN_NO_ID;
}

/* What Python's str.isprintable means. */
static bool is_printable(uint32_t code)
{
    if (code < 0x7F)
        return code >= 0x20;
    if (!is_scalar(code))
        return false;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

/* One character between quotes of this kind, as Python writes it. Returns its bytes. */
static size_t repr_one(char piece[16], uint32_t code, char quote)
{
    int length;
    if (code == '\\' || code == (unsigned char)quote)
        length = snprintf(piece, 16, "\\%c", (char)code);
    else if (code == '\n' || code == '\r' || code == '\t')
        length = snprintf(piece, 16, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    else if (is_printable(code))
        length = crnn_utf8_encode(piece, code);
    else if (code < 0x100)
        length = snprintf(piece, 16, "\\x%02x", (unsigned)code);
    else if (code < 0x10000)
        length = snprintf(piece, 16, "\\u%04x", (unsigned)code);
    else
        length = snprintf(piece, 16, "\\U%08x", (unsigned)code);
    return (size_t)length;
}

static void put(char *out, size_t size, size_t *used, const char *piece, size_t length)
{
    /* A piece is written whole or not at all, and nothing after one that did not fit: what is there stays valid UTF-8. */
    if (size > 0 && *used + length < size) {
        memcpy(out + *used, piece, length);
        out[*used + length] = '\0';
    }
    *used += length;
}

size_t crnn_repr(char *out, size_t size, const uint32_t *codes, size_t count)
{
    bool single = false, twofold = false;
    for (size_t i = 0; i < count; i++) {
        single |= codes[i] == '\'';
        twofold |= codes[i] == '"';
    }
    char quote = single && !twofold ? '"' : '\'';
    size_t used = 0;
    if (size > 0)
        out[0] = '\0';
    put(out, size, &used, &quote, 1);
    for (size_t i = 0; i < count; i++) {
        char piece[16];
        size_t length = repr_one(piece, codes[i], quote);
        put(out, size, &used, piece, length);
    }
    put(out, size, &used, &quote, 1);
    return used;
}
