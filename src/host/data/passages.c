#include "host/data/passages.h"
#include "host/base/memory.h"
#include <stdbool.h>
#include <stdlib.h>

/* A repeat of 2 * BLOCK - 1 bytes holds a whole block of its first occurrence, wherever the blocks lie. */
enum { BLOCK = CRNN_PASSAGE / 2 };
#define FACTOR                                                                                                         \
    UINT64_C(0x9E3779B97F4A7C15) /* of the rolling polynomial; odd, so that no power of it is 0 modulo 2^64 */

typedef struct {
    uint32_t tag;    /* of the fingerprint, so that most strangers are known without a look at the text */
    uint32_t number; /* 1 + the block's; 0: free */
} slot;

typedef struct {
    const unsigned char *text;
    const int64_t *ends;
    int parts;
    int64_t begin, end; /* of the part that is walked */
    int64_t clear; /* nothing before this is free for a new passage: the end of the last one, or the part's begin */
    uint64_t top;  /* FACTOR^BLOCK: the weight of the byte that leaves */
    slot *slots;
    size_t mask; /* slots - 1, which is a power of two */
    crnn_passage *found;
    size_t count, capacity;
} walk;

static unsigned char fold(unsigned char byte)
{
    return byte == '\n' ? ' ' : byte;
}

static bool same(const walk *w, int64_t a, int64_t b)
{
    return fold(w->text[a]) == fold(w->text[b]);
}

static uint64_t mix(uint64_t hash)
{
    hash ^= hash >> 32;
    return hash * UINT64_C(0xD6E8FEB86659FD93);
}

/* The block kept under the fingerprint of the window at `at`, as the offset of its first byte, or -1. *place: its slot, or the one that it would
 * go to. */
static int64_t look_up(const walk *w, uint64_t hash, int64_t at, slot **place)
{
    uint64_t mixed = mix(hash);
    uint32_t tag = (uint32_t)(mixed >> 32);
    for (size_t i = (size_t)mixed & w->mask;; i = (i + 1) & w->mask) {
        slot *s = *place = &w->slots[i];
        if (!s->number) {
            s->tag = tag;
            return -1;
        }
        int64_t block = ((int64_t)s->number - 1) * BLOCK, k = 0;
        while (s->tag == tag && k < BLOCK && same(w, block + k, at + k))
            k++;
        if (k == BLOCK)
            return block;
    }
}

/* How many repeats begin at or before `at`. */
static size_t repeats_up_to(const walk *w, int64_t at)
{
    size_t low = 0, high = w->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (w->found[middle].at > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int part_of(const walk *w, int64_t at)
{
    int first = 0, last = w->parts - 1;
    while (first < last) {
        int middle = first + (last - first) / 2;
        if (w->ends[middle] > at)
            last = middle;
        else
            first = middle + 1;
    }
    return first;
}

/* The stretch around `at` that lies in one part and in no repeat: what an original may be taken from. */
static void original_around(const walk *w, int64_t at, int64_t *begin, int64_t *end)
{
    size_t before = repeats_up_to(w, at);
    int part = part_of(w, at);
    *begin = part ? w->ends[part - 1] : 0;
    *end = w->ends[part];
    if (before > 0 && w->found[before - 1].at + w->found[before - 1].length > *begin)
        *begin = w->found[before - 1].at + w->found[before - 1].length;
    if (before < w->count && w->found[before].at < *end)
        *end = w->found[before].at;
}

/* The passage around a block that stands at `first` and again at `at`, as long as it can be without overlapping itself. */
static crnn_passage stretch(const walk *w, int64_t at, int64_t first)
{
    int64_t begin, end, length = BLOCK;
    original_around(w, first, &begin, &end);
    int64_t stop = end < at ? end : at, most = stop - first < w->end - at ? stop - first : w->end - at;
    if (most < BLOCK)
        return (crnn_passage){at, 0, first};
    while (length < most && same(w, first + length, at + length))
        length++;
    /* A whole block more to the front would have been found there. */
    for (int back = 1; back < BLOCK && at > w->clear && first > begin && first + length < at; back++) {
        if (!same(w, first - 1, at - 1))
            break;
        at--;
        first--;
        length++;
    }
    return (crnn_passage){at, length, first};
}

static crnn_status keep(walk *w, crnn_passage passage, crnn_error *err)
{
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 64;
        crnn_passage *found = realloc(w->found, capacity * sizeof *found);
        if (!found)
            return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the repeats in a text");
        w->found = found;
        w->capacity = capacity;
    }
    w->found[w->count++] = passage;
    return CRNN_OK;
}

static uint64_t fingerprint(const walk *w, int64_t at)
{
    uint64_t hash = 0;
    for (int64_t k = 0; k < BLOCK; k++)
        hash = hash * FACTOR + fold(w->text[at + k]);
    return hash;
}

static crnn_status walk_part(walk *w, crnn_error *err)
{
    int64_t at = w->clear = w->begin;
    if (w->end - at < BLOCK)
        return CRNN_OK;
    for (uint64_t hash = fingerprint(w, at);;) {
        slot *place;
        int64_t block = look_up(w, hash, at, &place);
        crnn_passage passage = block < 0 ? (crnn_passage){0} : stretch(w, at, block);
        if (passage.length >= CRNN_PASSAGE) {
            if (keep(w, passage, err) != CRNN_OK)
                return CRNN_ERR_MEMORY;
            at = w->clear = passage.at + passage.length;
            if (w->end - at < BLOCK)
                return CRNN_OK;
            hash = fingerprint(w, at);
            continue;
        }
        if (block < 0 && at % BLOCK == 0)
            place->number = (uint32_t)(at / BLOCK) + 1;
        if (at + BLOCK == w->end)
            return CRNN_OK;
        hash = hash * FACTOR + fold(w->text[at + BLOCK]) - w->top * fold(w->text[at]);
        at++;
    }
}

crnn_status crnn_passages_find(crnn_passage **found, size_t *count, const unsigned char *text, const int64_t *ends,
                               int parts, crnn_error *err)
{
    walk w = {.text = text, .ends = ends, .parts = parts, .top = 1};
    int64_t blocks = parts ? ends[parts - 1] / BLOCK : 0;
    crnn_status status = CRNN_OK;
    size_t slots = 64;
    while (slots < 2 * (size_t)blocks)
        slots *= 2;
    for (int k = 0; k < BLOCK; k++)
        w.top *= FACTOR;
    w.mask = slots - 1;
    if (blocks >= UINT32_MAX)
        return crnn_fail(err, CRNN_ERR_FORMAT, "a text of %lld bytes is too long to be searched for repeats",
                         (long long)ends[parts - 1]);
    w.slots = calloc(slots, sizeof *w.slots);
    if (!w.slots)
        status =
            crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %zu bytes to find repeats with", slots * sizeof *w.slots);
    for (int part = 0; part < parts && status == CRNN_OK; part++) {
        w.begin = part ? ends[part - 1] : 0;
        w.end = ends[part];
        status = walk_part(&w, err);
    }
    free(w.slots);
    if (status != CRNN_OK) {
        free(w.found);
        w.found = NULL;
        w.count = 0;
    }
    *found = w.found;
    *count = w.count;
    return status;
}
