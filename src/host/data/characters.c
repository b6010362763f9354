#include "host/data/characters.h"
#include "host/base/memory.h"
#include "host/data/decode.h"
#include "host/data/frames.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { CODE_SPACE = 0x110000, LINE = 512, CONTROLS = 128, PUBLISHERS = 16, ENDINGS = 3 };
enum { LF, CRLF, CR };
static const char *const ending_names[ENDINGS] = {"\\n", "\\r\\n", "\\r"};

/* How often something was seen, and where first. */
typedef struct {
    int64_t count, line;
} sight;

/* A character of the training text. */
typedef struct {
    uint32_t code;
    int file;
    sight seen;
} character;

typedef struct {
    const char *publisher;
    sight seen;
} mention;

/* What the present file gave so far. */
typedef struct {
    sight invalid, endings[ENDINGS], decomposed;
    uint32_t bad_byte, base, mark; /* the first ones */
    sight controls[CONTROLS];
    uint32_t control_codes[CONTROLS];
    int control_count;
    uint32_t before; /* the last character; 0 at the begin */
    int64_t before_line;
    char text[LINE]; /* the present line in small letters, as much as fits */
    size_t length;
    sight begins, ends; /* lines after which a frame lets a text begin, and before which it ends */
    const char *framer; /* whose */
    mention mentions[PUBLISHERS];
    int mention_count;
} present;

typedef struct {
    int file;
    uint32_t base, mark;
    sight seen;
} accents;

struct crnn_characters {
    uint32_t *number; /* [CODE_SPACE] 1 + the index of a code point in all, 0 where it has none; touched page by page */
    character *all;
    size_t count, capacity;
    present now;
    int *ending_of; /* of each file: LF, CRLF, CR, or -1 where it has none or more than one */
    accents *decomposed;
    int decomposed_count, files, capacity_of_files;
};

crnn_characters *crnn_characters_new(crnn_error *err)
{
    crnn_characters *look = crnn_alloc(1, sizeof *look, "looking at a text", err);
    if (!look)
        return NULL;
    look->number = calloc(CODE_SPACE, sizeof *look->number);
    if (look->number)
        return look;
    crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for looking at a text");
    free(look);
    return NULL;
}

void crnn_characters_free(crnn_characters *look)
{
    if (!look)
        return;
    free(look->number);
    free(look->all);
    free(look->ending_of);
    free(look->decomposed);
    free(look);
}

/* --- one character ---------------------------------------------------------------------------------------------------- */

static void see(sight *seen, int64_t line)
{
    if (seen->count++ == 0)
        seen->line = line;
}

static crnn_status count(crnn_characters *look, int file, uint32_t code, int64_t line, crnn_error *err)
{
    if (!look->number[code]) {
        if (look->count == look->capacity) {
            size_t capacity = look->capacity ? 2 * look->capacity : 256;
            character *all = realloc(look->all, capacity * sizeof *all);
            if (!all)
                return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the characters of a text");
            look->all = all;
            look->capacity = capacity;
        }
        look->all[look->count++] = (character){code, file, {0, 0}};
        look->number[code] = (uint32_t)look->count;
    }
    see(&look->all[look->number[code] - 1].seen, line);
    return CRNN_OK;
}

/* Not those that have a place in every text, and what no one sees: a zero-width blank, a byte-order mark within. */
static bool is_odd(uint32_t code)
{
    return (crnn_is_control(code) && code != '\n' && code != '\r' && code != '\t') || code == 0x200B || code == 0xFEFF;
}

static void see_control(present *now, uint32_t code, int64_t line)
{
    int i = 0;
    while (i < now->control_count && now->control_codes[i] != code)
        i++;
    if (i == now->control_count)
        now->control_codes[now->control_count++] = code; /* is_odd knows fewer than CONTROLS */
    see(&now->controls[i], line);
}

/* Do the two make one character in normal form C? */
static bool composes(uint32_t base, uint32_t mark)
{
    utf8proc_int32_t pair[2] = {(utf8proc_int32_t)base, (utf8proc_int32_t)mark};
    bool hangul = mark >= 0x1161 && mark <= 0x11C2;
    if (mark < 0x300 || base == 0 || (!hangul && utf8proc_get_property(pair[1])->combining_class == 0))
        return false;
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1;
}

/* --- one line --------------------------------------------------------------------------------------------------------- */

static void see_mention(present *now, const char *publisher, int64_t line)
{
    int i = 0;
    while (i < now->mention_count && strcmp(now->mentions[i].publisher, publisher) != 0)
        i++;
    if (i == PUBLISHERS)
        return;
    if (i == now->mention_count)
        now->mentions[now->mention_count++] = (mention){publisher, {0, 0}};
    see(&now->mentions[i].seen, line);
}

static void end_line(present *now, int64_t line)
{
    now->text[now->length] = 0;
    now->length = 0;
    const crnn_frame *frame = crnn_frame_of(now->text);
    if (!frame)
        return;
    if (frame->part == CRNN_FRAME_NAME) {
        if (!now->ends.count) /* what comes after the text is told as a whole */
            see_mention(now, frame->publisher, line);
        return;
    }
    now->framer = frame->publisher;
    see(frame->part == CRNN_FRAME_BEGIN ? &now->begins : &now->ends, line);
    if (frame->part == CRNN_FRAME_BEGIN)
        now->mention_count = 0; /* and what comes before it */
}

static void see_line_end(present *now, uint32_t code, int64_t line)
{
    if (now->before == '\r')
        see(&now->endings[code == '\n' ? CRLF : CR], now->before_line);
    else if (code == '\n')
        see(&now->endings[LF], line);
    if (code == '\r' || (code == '\n' && now->before != '\r'))
        end_line(now, line);
}

crnn_status crnn_characters_take(crnn_characters *look, int file, bool held_out, uint32_t code, int64_t line,
                                 crnn_error *err)
{
    present *now = &look->now;
    if (code == '\n' || code == '\r' || now->before == '\r')
        see_line_end(now, code, line);
    if (code >= CRNN_BAD_CODE) {
        if (now->invalid.count == 0)
            now->bad_byte = code - CRNN_BAD_CODE;
        see(&now->invalid, line);
        now->before = 0;
        return CRNN_OK;
    }
    if (is_odd(code))
        see_control(now, code, line);
    if (code >= 0x300 && composes(now->before, code)) {
        if (now->decomposed.count == 0) {
            now->base = now->before;
            now->mark = code;
        }
        see(&now->decomposed, line);
    }
    if (code >= ' ' && code < 0x7F && now->length < LINE - 1)
        now->text[now->length++] = (char)tolower((int)code);
    now->before = code;
    now->before_line = line;
    return held_out ? CRNN_OK : count(look, file, code, line, err);
}

/* --- one file --------------------------------------------------------------------------------------------------------- */

void crnn_characters_begin(crnn_characters *look)
{
    look->now = (present){0};
}

/* what: of the frame, at the line seen. */
static crnn_status tell_frame(const present *now, const sight *seen, const char *what, crnn_findings *findings,
                              const crnn_looked_file *file, crnn_error *err)
{
    char times[48] = "";
    if (!seen->count)
        return CRNN_OK;
    if (seen->count > 1)
        snprintf(times, sizeof times, ", and %lld times more", (long long)seen->count - 1);
    return crnn_findings_at(findings, CRNN_FINDING_LICENCE_FRAME, file, seen->line, seen->count, err,
                            "%s's frame %s here%s", now->framer, what, times);
}

static crnn_status tell_frames(const present *now, crnn_findings *findings, const crnn_looked_file *file,
                               crnn_error *err)
{
    crnn_status status = tell_frame(now, &now->begins, "before a text ends", findings, file, err);
    if (status == CRNN_OK)
        status = tell_frame(now, &now->ends, "after a text begins", findings, file, err);
    for (int i = 0; i < now->mention_count && status == CRNN_OK; i++) {
        const mention *m = &now->mentions[i];
        status = crnn_findings_at(findings, CRNN_FINDING_LICENCE_FRAME, file, m->seen.line, m->seen.count, err,
                                  "%lld line%s of %s", (long long)m->seen.count, m->seen.count == 1 ? "" : "s",
                                  m->publisher);
    }
    return status;
}

/* Which of the three the file has; -1 where it has none, or more than one, which is told. */
static crnn_status tell_endings(const present *now, int *only, crnn_findings *findings, const crnn_looked_file *file,
                                crnn_error *err)
{
    int kinds = 0, most = 0, least = -1;
    *only = -1;
    for (int i = 0; i < ENDINGS; i++) {
        if (!now->endings[i].count)
            continue;
        kinds++;
        if (now->endings[i].count > now->endings[most].count)
            most = i;
        if (least < 0 || now->endings[i].count < now->endings[least].count)
            least = i;
    }
    if (kinds == 1)
        *only = least;
    if (kinds < 2)
        return CRNN_OK;
    most = most == least ? (least + 1) % ENDINGS : most; /* as many of each */
    return crnn_findings_at(findings, CRNN_FINDING_LINE_ENDS, file, now->endings[least].line, now->endings[least].count,
                            err, "%lld line%s with %s, the first of them here; %lld with %s",
                            (long long)now->endings[least].count, now->endings[least].count == 1 ? " ends" : "s end",
                            ending_names[least], (long long)now->endings[most].count, ending_names[most]);
}

static crnn_status tell_controls(const present *now, crnn_findings *findings, const crnn_looked_file *file,
                                 crnn_error *err)
{
    crnn_status status = CRNN_OK;
    for (int i = 0; i < now->control_count && status == CRNN_OK; i++)
        status = crnn_findings_at(findings, CRNN_FINDING_CONTROL, file, now->controls[i].line, now->controls[i].count,
                                  err, "U+%04X, %lld time%s", (unsigned)now->control_codes[i],
                                  (long long)now->controls[i].count, now->controls[i].count == 1 ? "" : "s");
    return status;
}

/* Room for one file more in the two lists. */
static crnn_status make_room(crnn_characters *look, crnn_error *err)
{
    if (look->files < look->capacity_of_files)
        return CRNN_OK;
    int capacity = look->capacity_of_files ? 2 * look->capacity_of_files : 16;
    int *endings = realloc(look->ending_of, (size_t)capacity * sizeof *endings);
    if (endings)
        look->ending_of = endings;
    accents *decomposed = realloc(look->decomposed, (size_t)capacity * sizeof *decomposed);
    if (decomposed)
        look->decomposed = decomposed;
    if (!endings || !decomposed)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the list of files");
    look->capacity_of_files = capacity;
    return CRNN_OK;
}

crnn_status crnn_characters_end(crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files, int file,
                                int64_t lines, crnn_error *err)
{
    present *now = &look->now;
    const crnn_looked_file *at = &files[file];
    if (now->before == '\r')
        see_line_end(now, 0, now->before_line);
    if (now->length)
        end_line(now, lines);
    crnn_status status = make_room(look, err);
    if (status == CRNN_OK)
        status = tell_frames(now, findings, at, err);
    if (status == CRNN_OK && now->invalid.count)
        status = crnn_findings_at(findings, CRNN_FINDING_INVALID_BYTES, at, now->invalid.line, now->invalid.count, err,
                                  "%lld piece%s of it, the first here with byte 0x%02x", (long long)now->invalid.count,
                                  now->invalid.count == 1 ? "" : "s", (unsigned)now->bad_byte);
    if (status == CRNN_OK)
        status = tell_controls(now, findings, at, err);
    if (status == CRNN_OK)
        status = tell_endings(now, &look->ending_of[look->files], findings, at, err);
    if (status != CRNN_OK)
        return status;
    look->files++;
    if (now->decomposed.count)
        look->decomposed[look->decomposed_count++] = (accents){file, now->base, now->mark, now->decomposed};
    return CRNN_OK;
}

/* --- all files -------------------------------------------------------------------------------------------------------- */

/* Files that are of one kind each, but not all of the same. */
static crnn_status tell_other_endings(const crnn_characters *look, crnn_findings *findings,
                                      const crnn_looked_file *files, crnn_error *err)
{
    int64_t with[ENDINGS] = {0};
    int most = 0;
    crnn_status status = CRNN_OK;
    for (int i = 0; i < look->files; i++)
        if (look->ending_of[i] >= 0)
            with[look->ending_of[i]]++;
    for (int i = 0; i < ENDINGS; i++)
        most = with[i] > with[most] ? i : most;
    for (int i = 0; i < look->files && status == CRNN_OK; i++)
        if (look->ending_of[i] >= 0 && look->ending_of[i] != most)
            status = crnn_findings_at(findings, CRNN_FINDING_LINE_ENDS, &files[i], 1, 1, err,
                                      "its lines end with %s, those of %lld other file%s with %s",
                                      ending_names[look->ending_of[i]], (long long)with[most],
                                      with[most] == 1 ? "" : "s", ending_names[most]);
    return status;
}

/* Canonical decomposition of one character; returns its length. */
static int decompose(uint32_t code, utf8proc_int32_t parts[8])
{
    int boundary = 0;
    utf8proc_ssize_t length =
        utf8proc_decompose_char((utf8proc_int32_t)code, parts, 8, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    return length >= 1 && length <= 8 ? (int)length : 1;
}

static crnn_status tell_accents(const crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files,
                                crnn_error *err)
{
    utf8proc_int32_t parts[8];
    int64_t composed = 0;
    crnn_status status = CRNN_OK;
    for (size_t i = 0; i < look->count; i++)
        composed += decompose(look->all[i].code, parts) > 1 ? look->all[i].seen.count : 0;
    for (int i = 0; i < look->decomposed_count && status == CRNN_OK; i++) {
        const accents *a = &look->decomposed[i];
        char base[32], with[80] = "";
        crnn_repr(base, sizeof base, &a->base, 1);
        if (composed)
            snprintf(with, sizeof with, "; %lld elsewhere as one", (long long)composed);
        status = crnn_findings_at(findings, CRNN_FINDING_ACCENTS, &files[a->file], a->seen.line, a->seen.count, err,
                                  "%lld letter%s written as two characters, the first here with %s and U+%04X%s",
                                  (long long)a->seen.count, a->seen.count == 1 ? " is" : "s are", base,
                                  (unsigned)a->mark, with);
    }
    return status;
}

static int by_code(const void *a, const void *b)
{
    const character *x = a, *y = b;
    return (x->code > y->code) - (x->code < y->code);
}

/* Characters that normal form C writes another way, and those that are rare. */
static crnn_status tell_characters(const crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files,
                                   crnn_error *err)
{
    crnn_status status = CRNN_OK;
    for (size_t i = 0; i < look->count && status == CRNN_OK; i++) {
        const character *c = &look->all[i];
        utf8proc_int32_t parts[8];
        char shown[32];
        int length = decompose(c->code, parts);
        crnn_repr(shown, sizeof shown, &c->code, 1);
        if (utf8proc_normalize_utf32(parts, length, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1 &&
            (uint32_t)parts[0] != c->code)
            status = crnn_findings_at(findings, CRNN_FINDING_ACCENTS, &files[c->file], c->seen.line, c->seen.count, err,
                                      "%s is written U+%04X %lld time%s, where U+%04X is the usual character", shown,
                                      (unsigned)c->code, (long long)c->seen.count, c->seen.count == 1 ? "" : "s",
                                      (unsigned)parts[0]);
        if (status == CRNN_OK && c->seen.count < CRNN_RARE && c->code != '\n' && c->code != '\r' && !is_odd(c->code))
            status = crnn_findings_at(findings, CRNN_FINDING_RARE, &files[c->file], c->seen.line, c->seen.count, err,
                                      "%s (U+%04X), %lld time%s", shown, (unsigned)c->code, (long long)c->seen.count,
                                      c->seen.count == 1 ? "" : "s");
    }
    return status;
}

crnn_status crnn_characters_finish(crnn_characters *look, crnn_findings *findings, const crnn_looked_file *files,
                                   crnn_error *err)
{
    crnn_status status = tell_other_endings(look, findings, files, err);
    if (status == CRNN_OK)
        status = tell_accents(look, findings, files, err);
    if (look->count)
        qsort(look->all, look->count, sizeof *look->all, by_code);
    return status == CRNN_OK ? tell_characters(look, findings, files, err) : status;
}
