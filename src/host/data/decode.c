#include "host/data/decode.h"
#include "host/base/escape.h"
#include "host/base/memory.h"
#include "host/base/utf8.h"
#include <assert.h>
#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wchar.h>

static_assert(sizeof(wchar_t) == 4, "iconv's WCHAR_T is UTF-32");
enum { REPLACEMENT = 0xFFFD };

struct crnn_decoder {
    crnn_invalid invalid;
    bool utf8, mark_bad;
    iconv_t conversion; /* where not utf8 */
    int unit;           /* bytes of the encoding's smallest piece */
    char encoding[64];
    const char *name;
    int64_t offset; /* of in[0] in the text */
};

static int unit_of(const char *encoding)
{
    if (strstr(encoding, "32") || strcasestr(encoding, "UCS-4") || strcasestr(encoding, "UCS4"))
        return 4;
    if (strcasestr(encoding, "UTF-16") || strcasestr(encoding, "UTF16") || strcasestr(encoding, "UCS-2") ||
        strcasestr(encoding, "UCS2") || strcasestr(encoding, "UNICODE"))
        return 2;
    return 1;
}

crnn_decoder *crnn_decoder_new(const char *encoding, crnn_invalid invalid, crnn_error *err)
{
    crnn_decoder *decoder = crnn_alloc(1, sizeof *decoder, "a decoder", err);
    if (!decoder)
        return NULL;
    crnn_escape(decoder->encoding, sizeof decoder->encoding, encoding, strlen(encoding), false);
    decoder->invalid = invalid;
    decoder->unit = unit_of(encoding);
    decoder->utf8 = strcasecmp(encoding, "utf-8") == 0 || strcasecmp(encoding, "utf8") == 0;
    if (decoder->utf8)
        return decoder;
    /* A slash would be one of iconv's switches (//IGNORE), which hide errors; the empty name is the locale's encoding. */
    decoder->conversion = *encoding && !strchr(encoding, '/') ? iconv_open("WCHAR_T", encoding) : (iconv_t)-1;
    if (decoder->conversion == (iconv_t)-1) {
        crnn_fail(err, CRNN_ERR_ARGUMENT, "no such encoding: \"%s\" (iconv --list shows those there are)",
                  decoder->encoding);
        free(decoder);
        return NULL;
    }
    return decoder;
}

void crnn_decoder_free(crnn_decoder *decoder)
{
    if (!decoder)
        return;
    if (!decoder->utf8)
        iconv_close(decoder->conversion);
    free(decoder);
}

bool crnn_decoder_has_zero_bytes(const crnn_decoder *decoder)
{
    return decoder->unit > 1;
}

void crnn_decoder_mark_bad(crnn_decoder *decoder)
{
    decoder->invalid = CRNN_INVALID_REPLACE;
    decoder->mark_bad = true;
}

/* What stands for a piece that is no text and begins with byte. */
static uint32_t stand_in(const crnn_decoder *decoder, unsigned char byte)
{
    return decoder->mark_bad ? CRNN_BAD_CODE + byte : REPLACEMENT;
}

void crnn_decoder_begin(crnn_decoder *decoder, const char *name)
{
    decoder->name = name;
    decoder->offset = 0;
    if (!decoder->utf8)
        iconv(decoder->conversion, NULL, NULL, NULL, NULL);
}

static crnn_status refuse(const crnn_decoder *decoder, const unsigned char *in, size_t size, size_t at, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    const bool utf16 = decoder->utf8 && decoder->offset == 0 && at == 0 && size >= 2 &&
                       ((in[0] == 0xFF && in[1] == 0xFE) || (in[0] == 0xFE && in[1] == 0xFF));
    return crnn_fail(err, CRNN_ERR_FORMAT, "%s: byte %lld (0x%02x) is not valid %s; %s",
                     crnn_shown(shown, decoder->name), (long long)(decoder->offset + (int64_t)at), in[at],
                     decoder->utf8 ? "UTF-8" : decoder->encoding,
                     utf16 ? "it looks like UTF-16 (--encoding utf-16)"
                           : "name its encoding (--encoding), or have U+FFFD in its place (--invalid replace)");
}

static crnn_status run_utf8(const crnn_decoder *decoder, uint32_t *codes, size_t *count, const unsigned char *in,
                            size_t size, bool last, size_t *used, crnn_error *err)
{
    size_t at = 0, n = 0;
    while (at < size) {
        if (in[at] < 0x80) {
            codes[n++] = in[at++];
            continue;
        }
        if (!last && size - at < 4)
            break;
        int length = crnn_utf8_decode_part(in + at, size - at, &codes[n]);
        if (length < 0) {
            if (decoder->invalid == CRNN_INVALID_ERROR)
                return refuse(decoder, in, size, at, err);
            codes[n] = stand_in(decoder, in[at]);
            length = -length;
        }
        n++;
        at += (size_t)length;
    }
    *used = at;
    *count = n;
    return CRNN_OK;
}

/* UCS-4 and its like may bring in what is no Unicode character. */
static crnn_status only_scalars(const crnn_decoder *decoder, uint32_t *codes, size_t count, crnn_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (codes[i] < 0xD800 || (codes[i] > 0xDFFF && codes[i] < 0x110000) || codes[i] >= CRNN_BAD_CODE)
            continue;
        if (decoder->invalid == CRNN_INVALID_ERROR) {
            char shown[CRNN_SHOWN];
            return crnn_fail(err, CRNN_ERR_FORMAT, "%s: 0x%lx, after byte %lld, is no Unicode character",
                             crnn_shown(shown, decoder->name), (unsigned long)codes[i], (long long)decoder->offset);
        }
        codes[i] = stand_in(decoder, (unsigned char)codes[i]);
    }
    return CRNN_OK;
}

static crnn_status run_iconv(const crnn_decoder *decoder, uint32_t *codes, size_t capacity, size_t *count,
                             const unsigned char *in, size_t size, bool last, size_t *used, crnn_error *err)
{
    char *from = (char *)(uintptr_t)in, *to = (char *)codes; /* iconv's prototype lacks the const */
    size_t left = size, room = capacity * sizeof *codes;
    if (last && size == 0)
        iconv(decoder->conversion, NULL, NULL, &to, &room);
    while (left > 0 && room >= sizeof *codes) {
        if (iconv(decoder->conversion, &from, &left, &to, &room) != (size_t)-1)
            continue;
        if (errno == E2BIG || (errno == EINVAL && !last))
            break;
        if (decoder->invalid == CRNN_INVALID_ERROR)
            return refuse(decoder, in, size, size - left, err);
        if (room < sizeof *codes)
            break;
        size_t skipped = errno == EINVAL || left < (size_t)decoder->unit ? left : (size_t)decoder->unit;
        const uint32_t replacement = stand_in(decoder, (unsigned char)*from);
        memcpy(to, &replacement, sizeof replacement);
        to += sizeof replacement;
        room -= sizeof replacement;
        from += skipped;
        left -= skipped;
    }
    *used = size - left;
    *count = capacity - room / sizeof *codes;
    return only_scalars(decoder, codes, *count, err);
}

crnn_status crnn_decoder_run(crnn_decoder *decoder, uint32_t *codes, size_t capacity, size_t *count,
                             const unsigned char *in, size_t size, bool last, size_t *used, crnn_error *err)
{
    crnn_status status = decoder->utf8 ? run_utf8(decoder, codes, count, in, size, last, used, err)
                                       : run_iconv(decoder, codes, capacity, count, in, size, last, used, err);
    if (status == CRNN_OK)
        decoder->offset += (int64_t)*used;
    return status;
}
