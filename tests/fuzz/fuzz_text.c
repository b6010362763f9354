/* The first byte chooses the encoding and what is done with bytes that are no text; what follows is the text. */
#include "fuzz.h"
#include <crnn/crnn.h>
#include <stdlib.h>
#include <string.h>

static const char *const encodings[] = {"utf-8",  "latin1",    "utf-16",      "utf-16be", "ucs-4",      "utf-7",
                                        "euc-jp", "shift-jis", "iso-2022-jp", "gb18030",  "big5-hkscs", "cp1252"};
enum { ENCODINGS = sizeof encodings / sizeof *encodings };

static void look_at_vocab(const crnn_vocab *vocab)
{
    int32_t V = crnn_vocab_size(vocab);
    const uint32_t *codes = crnn_vocab_codes(vocab);
    ALWAYS(V >= 1 && V <= CRNN_MAX_VOCAB);
    for (int32_t v = 0; v < V; v++) {
        char bytes[4], shown[32];
        uint32_t back;
        ALWAYS(v == 0 || codes[v] > codes[v - 1]);
        ALWAYS(crnn_vocab_id(vocab, codes[v]) == v);
        int length = crnn_utf8_encode(bytes, codes[v]);
        ALWAYS(crnn_utf8_decode(bytes, (size_t)length, &back) == length && back == codes[v]);
        ALWAYS(crnn_repr(shown, sizeof shown, codes + v, 1) < sizeof shown);
    }
}

static void look_at_corpus(const crnn_corpus *corpus)
{
    int64_t characters = 0, held_out = 0;
    crnn_ids train = crnn_corpus_train(corpus), val = crnn_corpus_val(corpus);
    int32_t V = crnn_vocab_size(crnn_corpus_vocab(corpus));
    look_at_vocab(crnn_corpus_vocab(corpus));
    for (int64_t i = 0; i < train.count; i++)
        ALWAYS(crnn_ids_at(train, i) < V);
    for (int64_t i = 0; i < val.count; i++)
        ALWAYS(crnn_ids_at(val, i) < V);
    for (int i = 0; i < crnn_corpus_file_count(corpus); i++) {
        characters += crnn_corpus_file(corpus, i).characters;
        held_out += crnn_corpus_file(corpus, i).val_characters;
    }
    ALWAYS(characters == train.count && held_out == val.count);
}

static void look_at_diagnosis(const crnn_diagnosis *d, size_t bytes)
{
    crnn_diagnosis_totals t = crnn_diagnosis_total(d);
    ALWAYS(t.files == 1 && t.bytes == (int64_t)bytes && t.characters >= 0);
    ALWAYS(t.repeated_characters <= t.characters && t.overlap_characters == 0);
    for (int i = 0; i < crnn_diagnosis_count(d); i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        ALWAYS(f->place_count >= 1 && f->place_count <= CRNN_MAX_PLACES && f->count >= 1);
        for (int p = 0; p < f->place_count; p++)
            ALWAYS(f->places[p].line >= 1 && f->places[p].line <= (t.lines ? t.lines : 1));
        for (const char *at = f->what; *at;) { /* what is shown is text without control characters */
            uint32_t code;
            int length = crnn_utf8_decode(at, strlen(at), &code);
            ALWAYS(length > 0 && code >= ' ' && code != 0x7F);
            at += length;
        }
    }
}

/* The bytes as code points, four of them each, whatever they are. */
static void try_vocab(const uint8_t *data, size_t size)
{
    uint32_t codes[256];
    size_t count = size / 4 < 256 ? size / 4 : 256;
    memcpy(codes, data, count * 4);
    crnn_vocab *vocab = crnn_vocab_new(codes, (int32_t)count, NULL);
    if (vocab)
        look_at_vocab(vocab);
    crnn_vocab_free(vocab);
    char shown[64];
    crnn_repr(shown, sizeof shown, codes, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    crnn_text_options options = crnn_text_options_default();
    crnn_error err = {0};
    if (size < 1)
        return 0;
    options.encoding = encodings[(data[0] & 0x7F) % ENCODINGS];
    options.invalid = data[0] & 0x80 ? CRNN_INVALID_REPLACE : CRNN_INVALID_ERROR;
    options.val_split = data[0] & 0x40 ? 0.3 : 0;
    data++;
    size--;
    const char *path = fuzz_file(data, size);
    crnn_corpus *corpus = crnn_corpus_read(&path, 1, NULL, 0, &options, &err);
    ALWAYS(corpus || (err.status != CRNN_OK && strlen(err.text) > 10));
    ALWAYS(corpus || options.invalid == CRNN_INVALID_ERROR || err.status == CRNN_ERR_FORMAT);
    if (corpus)
        look_at_corpus(corpus);
    crnn_corpus_free(corpus);
    crnn_diagnosis *d = crnn_doctor_look(&path, 1, NULL, 0, &options, &err);
    if (d)
        look_at_diagnosis(d, size);
    crnn_diagnosis_free(d);
    try_vocab(data, size);
    return 0;
}
