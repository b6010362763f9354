#include "host/data/repeats.h"
#include "host/base/memory.h"
#include "host/data/passages.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Two copies of one passage may differ by a few bytes where they end, since what follows may be the same by chance. */
enum { SLACK = 32, LOOK_BACK = 16 };

typedef struct {
    const crnn_squeezed *text;
    const crnn_looked_file *files;
    int file_count;
    int64_t held_out; /* first byte of the held-out texts */
    crnn_passage *passages;
    size_t count;
} repeats;

/* Copies of what stands at first..end. */
typedef struct {
    int64_t first, end;
    int64_t weight; /* bytes of all of them */
} group;

/* --- one passage ------------------------------------------------------------------------------------------------------ */

static bool continues(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

static bool is_blank(unsigned char byte)
{
    return byte == ' ' || byte == '\n';
}

/* Whole characters, without blanks at its ends. */
static void trim(crnn_passage *p, const crnn_squeezed *text)
{
    while (p->length > 0 && (continues(text->bytes[p->at]) || is_blank(text->bytes[p->at]))) {
        p->at++;
        p->first++;
        p->length--;
    }
    while (p->length > 0 && (size_t)(p->at + p->length) < text->count && continues(text->bytes[p->at + p->length]))
        p->length--;
    while (p->length > 0 && is_blank(text->bytes[p->at + p->length - 1]))
        p->length--;
}

/* Rules, dots and stars repeat without harm; so do blank lines. */
static bool is_prose(const crnn_passage *p, const crnn_squeezed *text)
{
    int64_t letters = 0;
    for (int64_t i = 0; i < p->length; i++)
        letters += text->bytes[p->at + i] >= 0x80 || isalpha(text->bytes[p->at + i]);
    return letters > 0 && 2 * letters >= p->length;
}

static int64_t characters(const crnn_squeezed *text, int64_t from, int64_t to)
{
    int64_t count = 0;
    for (int64_t i = from; i < to; i++)
        count += !continues(text->bytes[i]);
    return count;
}

static crnn_place place_of(const repeats *r, int64_t at)
{
    int first = 0, last = r->file_count - 1;
    while (first < last) {
        int middle = first + (last - first + 1) / 2;
        if (r->files[middle].begin <= at)
            first = middle;
        else
            last = middle - 1;
    }
    const crnn_looked_file *file = &r->files[first];
    return crnn_place_at(file, 1 + crnn_squeezed_lines_before(r->text, (size_t)at) - file->first_line);
}

/* How the passage begins, for a person. */
static void excerpt(char out[100], const crnn_squeezed *text, int64_t from, int64_t to)
{
    char piece[60];
    size_t length = 0;
    int64_t i = from;
    for (; i < to && length < sizeof piece; i++)
        if (!is_blank(text->bytes[i]))
            piece[length++] = (char)text->bytes[i];
        else if (length > 0 && piece[length - 1] != ' ')
            piece[length++] = ' ';
    while (length > 0 && i < to && continues(text->bytes[i--])) /* half a character at the end */
        length--;
    crnn_escape(out, 100, piece, length, false);
}

/* --- groups ----------------------------------------------------------------------------------------------------------- */

static bool is_near(int64_t a, int64_t b)
{
    return a - b <= SLACK && b - a <= SLACK;
}

static int by_first(const void *a, const void *b)
{
    const crnn_passage *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_weight(const void *a, const void *b)
{
    const group *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* passages, sorted by first, to groups[0..returned). */
static size_t make_groups(group *groups, const repeats *r)
{
    size_t count = 0;
    for (size_t i = 0; i < r->count; i++) {
        const crnn_passage *p = &r->passages[i];
        size_t g = count, least = count > LOOK_BACK ? count - LOOK_BACK : 0;
        while (g > least &&
               !(is_near(groups[g - 1].first, p->first) && is_near(groups[g - 1].end, p->first + p->length)))
            g--;
        if (g > least)
            groups[g - 1].weight += p->length;
        else
            groups[count++] = (group){p->first, p->first + p->length, p->length};
    }
    return count;
}

static crnn_status add_group(crnn_findings *findings, const repeats *r, const group *g, crnn_error *err)
{
    crnn_place places[CRNN_MAX_PLACES] = {place_of(r, g->first)};
    char begin[100];
    crnn_finding finding = {.kind = CRNN_FINDING_REPEATED,
                            .places = places,
                            .place_count = 1,
                            .count = 1,
                            .characters = characters(r->text, g->first, g->end)};
    /* Longer passages hold it, too. */
    for (size_t i = 0; i < r->count && r->passages[i].first <= g->first + SLACK; i++) {
        const crnn_passage *p = &r->passages[i];
        if (p->first + p->length < g->end - SLACK)
            continue;
        int64_t into = g->first > p->first ? g->first - p->first : 0;
        if (finding.place_count < CRNN_MAX_PLACES)
            places[finding.place_count++] = place_of(r, p->at + into);
        finding.count++;
    }
    excerpt(begin, r->text, g->first, g->end);
    return crnn_findings_add(findings, finding, err, "%lld characters occur %lld times: \"%s...\"",
                             (long long)finding.characters, (long long)finding.count, begin);
}

static crnn_status tell_repeated(crnn_findings *findings, repeats *r, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    if (r->count == 0)
        return CRNN_OK;
    group *groups = malloc(r->count * sizeof *groups);
    if (!groups)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the repeats in a text");
    qsort(r->passages, r->count, sizeof *r->passages, by_first);
    size_t count = make_groups(groups, r);
    qsort(groups, count, sizeof *groups, by_weight);
    for (size_t i = 0; i < count && i < CRNN_MAX_FINDINGS && status == CRNN_OK; i++)
        status = add_group(findings, r, &groups[i], err);
    if (count > CRNN_MAX_FINDINGS)
        findings->found[CRNN_FINDING_REPEATED] = (int64_t)count;
    free(groups);
    return status;
}

static crnn_status tell_overlap(crnn_findings *findings, const repeats *r, const crnn_passage *p, crnn_error *err)
{
    char begin[100];
    crnn_finding finding = {.kind = CRNN_FINDING_OVERLAP,
                            .places = (crnn_place[]){place_of(r, p->at), place_of(r, p->first)},
                            .place_count = 2,
                            .count = 1,
                            .characters = characters(r->text, p->at, p->at + p->length)};
    excerpt(begin, r->text, p->at, p->at + p->length);
    return crnn_findings_add(findings, finding, err, "%lld characters are trained on: \"%s...\"",
                             (long long)finding.characters, begin);
}

/* Tells the overlaps at once, and leaves the repeats within the training text, or within the held-out one, in r. */
static crnn_status sort_out(crnn_findings *findings, crnn_diagnosis_totals *totals, repeats *r, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    size_t kept = 0;
    for (size_t i = 0; i < r->count && status == CRNN_OK; i++) {
        crnn_passage p = r->passages[i];
        trim(&p, r->text);
        if (!is_prose(&p, r->text))
            continue;
        int64_t length = characters(r->text, p.at, p.at + p.length);
        if (p.at >= r->held_out && p.first < r->held_out) {
            totals->overlap_characters += length;
            status = tell_overlap(findings, r, &p, err);
        } else {
            totals->repeated_characters += length;
            r->passages[kept++] = p;
        }
    }
    r->count = kept;
    return status;
}

crnn_status crnn_repeats_look(crnn_findings *findings, crnn_diagnosis_totals *totals, const crnn_squeezed *text,
                              const crnn_looked_file *files, int file_count, crnn_error *err)
{
    repeats r = {.text = text, .files = files, .file_count = file_count, .held_out = (int64_t)text->count};
    int64_t *ends = crnn_alloc((size_t)file_count, sizeof *ends, "the list of files", err);
    if (!ends)
        return CRNN_ERR_MEMORY;
    for (int i = 0; i < file_count; i++) {
        ends[i] = i + 1 < file_count ? files[i + 1].begin : (int64_t)text->count;
        if (files[i].held_out && files[i].begin < r.held_out)
            r.held_out = files[i].begin;
    }
    crnn_status status = crnn_passages_find(&r.passages, &r.count, text->bytes, ends, file_count, err);
    if (status == CRNN_OK)
        status = sort_out(findings, totals, &r, err);
    if (status == CRNN_OK)
        status = tell_repeated(findings, &r, err);
    free(r.passages);
    free(ends);
    return status;
}
