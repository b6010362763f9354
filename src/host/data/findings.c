#include "host/data/findings.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *title, *advice;
} kinds[CRNN_FINDING_KINDS] = {
    [CRNN_FINDING_REPEATED] = {"repeated-passage", "Passages that occur more than once",
                               "leave all but one out: a model learns by heart what it sees often"},
    [CRNN_FINDING_OVERLAP] = {"held-out-overlap", "Held-out passages that are trained on",
                              "leave them out of one of the two: they make the model look better than it is"},
    [CRNN_FINDING_LICENCE_FRAME] = {"licence-frame", "What a publisher of e-books put around the text",
                                    "leave those lines out, or the model will write them (data/fetch-books.sh --strip "
                                    "does it for Project Gutenberg)"},
    [CRNN_FINDING_INVALID_BYTES] = {"invalid-bytes", "Bytes that are no text",
                                    "name the encoding (--encoding, often windows-1252), or mend the file; "
                                    "--invalid replace puts U+FFFD there"},
    [CRNN_FINDING_CONTROL] = {"control-character", "Control characters and invisible ones",
                              "remove them, or put a blank there: the model would learn to write them"},
    [CRNN_FINDING_LINE_ENDS] =
        {"mixed-line-endings", "Line endings of more than one kind",
         "make them all \\n (dos2unix does it): otherwise the model has to guess which comes next"},
    [CRNN_FINDING_ACCENTS] = {"unnormalised-accents", "Accents that are not in Unicode's normal form C",
                              "bring the text into that form (uconv -x any-nfc does it), so that a letter is one "
                              "character, always the same"},
    [CRNN_FINDING_RARE] = {"rare-character", "Characters that are too rare to be learnt",
                           "write them another way where you can: the model cannot learn what it hardly ever sees"},
};

const char *crnn_finding_name(crnn_finding_kind kind)
{
    return kinds[kind].name;
}

const char *crnn_finding_title(crnn_finding_kind kind)
{
    return kinds[kind].title;
}

const char *crnn_finding_advice(crnn_finding_kind kind)
{
    return kinds[kind].advice;
}

crnn_place crnn_place_at(const crnn_looked_file *file, int64_t line)
{
    return (crnn_place){file->path, file->shown, line};
}

crnn_status crnn_findings_add(crnn_findings *list, crnn_finding finding, crnn_error *err, const char *format, ...)
{
    crnn_finding_kind kind = finding.kind;
    char *what = NULL;
    va_list args;
    if (list->found[kind]++ >= CRNN_MAX_FINDINGS)
        return CRNN_OK;
    va_start(args, format);
    int length = vasprintf(&what, format, args);
    va_end(args);
    size_t bytes = (size_t)finding.place_count * sizeof(crnn_place);
    crnn_place *places = malloc(bytes);
    if (!list->kept[kind])
        list->kept[kind] = malloc(CRNN_MAX_FINDINGS * sizeof *list->kept[kind]);
    if (length < 0 || !places || !list->kept[kind]) {
        if (length >= 0)
            free(what);
        free(places);
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for what was found in a text");
    }
    memcpy(places, finding.places, bytes);
    finding.what = what;
    finding.places = places;
    list->kept[kind][list->count[kind]++] = finding;
    return CRNN_OK;
}

void crnn_findings_free(crnn_findings *list)
{
    for (int kind = 0; kind < CRNN_FINDING_KINDS; kind++) {
        for (int i = 0; i < list->count[kind]; i++) {
            free((void *)(uintptr_t)list->kept[kind][i].what);
            free((void *)(uintptr_t)list->kept[kind][i].places);
        }
        free(list->kept[kind]);
    }
    *list = (crnn_findings){0};
}
