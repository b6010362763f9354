/* doctor.h - looks at texts before anyone trains on them: what is in them that a model would learn, or trip over, by mistake.
 *
 * One pass over each file and one over all of them, in time that grows with their size alone and memory of one to three times it.
 */
#ifndef CRNN_DOCTOR_H
#define CRNN_DOCTOR_H

#include <crnn/error.h>
#include <crnn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of how much harm they do. */
typedef enum {
    CRNN_FINDING_REPEATED,      /* a passage that occurs more than once */
    CRNN_FINDING_OVERLAP,       /* a held-out passage that is trained on */
    CRNN_FINDING_LICENCE_FRAME, /* what a publisher of e-books put around the text */
    CRNN_FINDING_INVALID_BYTES, /* bytes that are no text in this encoding */
    CRNN_FINDING_CONTROL,       /* control characters and invisible ones */
    CRNN_FINDING_LINE_ENDS,     /* line endings of more than one kind */
    CRNN_FINDING_ACCENTS,       /* accents that are not in normal form C */
    CRNN_FINDING_RARE,          /* characters that occur fewer than CRNN_RARE times */
    CRNN_FINDING_KINDS
} crnn_finding_kind;

enum { CRNN_RARE = 10, CRNN_MAX_FINDINGS = 100 /* kept of one kind */, CRNN_MAX_PLACES = 8 /* named of one finding */ };

typedef struct {
    const char *path;
    const char *shown; /* the path, escaped for a terminal: always valid UTF-8 */
    int64_t line;      /* from 1; \n, \r\n and \r end lines */
} crnn_place;

/* Strings and places live as long as the diagnosis. */
typedef struct {
    crnn_finding_kind kind;
    const char *what;         /* a sentence without its place, escaped for a terminal */
    const crnn_place *places; /* [place_count] the first is where to look; then further ones */
    int place_count;
    int64_t count;      /* how often it occurs */
    int64_t characters; /* how long it is, for passages, their blanks squeezed; else 0 */
} crnn_finding;

const char *crnn_finding_name(crnn_finding_kind kind);   /* "repeated-passage" */
const char *crnn_finding_title(crnn_finding_kind kind);  /* "Passages that occur more than once" */
const char *crnn_finding_advice(crnn_finding_kind kind); /* what to do, a sentence */

typedef struct crnn_diagnosis crnn_diagnosis;

/* Looks at what crnn_corpus_read would read, and goes on after each finding. options: encoding and note count, the others do not.
 * Errors: CRNN_ERR_IO (cannot be read), CRNN_ERR_FORMAT (empty, or no text at all), CRNN_ERR_ARGUMENT (no such encoding). */
crnn_diagnosis *crnn_doctor_look(const char *const *paths, int count, const char *const *val_paths, int val_count,
                                 const crnn_text_options *options, crnn_error *err);
void crnn_diagnosis_free(crnn_diagnosis *diagnosis);

int crnn_diagnosis_count(
    const crnn_diagnosis *diagnosis); /* findings that are kept, by kind, the worst of each first */
const crnn_finding *crnn_diagnosis_at(const crnn_diagnosis *diagnosis, int index);
int64_t crnn_diagnosis_found(const crnn_diagnosis *diagnosis, crnn_finding_kind kind); /* those not kept included */

typedef struct {
    int64_t files, bytes, characters, lines; /* held-out ones included */
    int64_t val_characters;
    int64_t repeated_characters; /* in passages that occurred before, but for the held-out ones that are trained on */
    int64_t overlap_characters;  /* of the held-out text, in passages that are trained on */
} crnn_diagnosis_totals;
crnn_diagnosis_totals crnn_diagnosis_total(const crnn_diagnosis *diagnosis);

#ifdef __cplusplus
}
#endif
#endif
