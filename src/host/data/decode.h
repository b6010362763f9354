/* decode.h - bytes of a named encoding to code points, block after block, with the byte offset of whatever is wrong.
 *
 * Only Unicode scalar values come out. One decoder serves many texts, one after the other.
 */
#ifndef CRNN_DATA_DECODE_H
#define CRNN_DATA_DECODE_H

#include <crnn/text.h>

typedef struct crnn_decoder crnn_decoder;

crnn_decoder *crnn_decoder_new(const char *encoding, crnn_invalid invalid, crnn_error *err);
void crnn_decoder_free(crnn_decoder *decoder);
/* Is a zero byte in this encoding an ordinary part of a character (UTF-16 and its like)? */
bool crnn_decoder_has_zero_bytes(const crnn_decoder *decoder);

/* From now on what is no text comes out as CRNN_BAD_CODE + its first byte, where U+FFFD would stand: for those who tell of it. */
#define CRNN_BAD_CODE UINT32_C(0x80000000)
void crnn_decoder_mark_bad(crnn_decoder *decoder);

/* A new text begins. name: for errors, lives until the next begin. */
void crnn_decoder_begin(crnn_decoder *decoder, const char *name);

/* Decodes from in[size]; *used: how many of its bytes are done with (the others, a few, come again with what follows them);
 * codes: [capacity], capacity >= size + 16, *count of them are written. last: nothing follows; then call until *used is size and
 * finally with size 0, which may give a last few. CRNN_ERR_FORMAT names text and byte offset. */
crnn_status crnn_decoder_run(crnn_decoder *decoder, uint32_t *codes, size_t capacity, size_t *count,
                             const unsigned char *in, size_t size, bool last, size_t *used, crnn_error *err);

#endif
