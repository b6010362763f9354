/* The doctor: reads texts as the corpus does, shows each character to those who look at them, and keeps what they found. */
#include "host/base/memory.h"
#include "host/data/characters.h"
#include "host/data/reading.h"
#include "host/data/repeats.h"
#include "host/data/squeezed.h"
#include <stdlib.h>
#include <string.h>

struct crnn_diagnosis {
    crnn_findings findings;
    crnn_looked_file *files;
    int file_count;
    crnn_diagnosis_totals totals;
};

/* All that is needed while texts are looked at, and no longer. */
typedef struct {
    crnn_text_options options;
    crnn_diagnosis *diagnosis;
    crnn_reading *reading;
    crnn_characters *characters;
    crnn_squeezed text;
    crnn_looked_file *file; /* the present one */
} look;

static crnn_status take(void *user, const uint32_t *codes, size_t count, crnn_error *err)
{
    look *at = user;
    int file = at->diagnosis->file_count;
    crnn_status status = CRNN_OK;
    for (size_t i = 0; i < count && status == CRNN_OK; i++) {
        int64_t line = 1 + at->text.lines - at->file->first_line;
        status = crnn_characters_take(at->characters, file, at->file->held_out, codes[i], line, err);
        if (status == CRNN_OK)
            status = crnn_squeezed_add(&at->text, codes[i] < CRNN_BAD_CODE ? codes[i] : 0xFFFD, err);
    }
    at->diagnosis->totals.characters += (int64_t)count;
    if (at->file->held_out)
        at->diagnosis->totals.val_characters += (int64_t)count;
    return status;
}

static crnn_status look_at_file(look *at, const crnn_input *input, crnn_error *err)
{
    crnn_diagnosis *d = at->diagnosis;
    crnn_text_facts facts;
    at->file = &d->files[d->file_count];
    *at->file =
        (crnn_looked_file){.held_out = input->held_out, .begin = (int64_t)at->text.count, .first_line = at->text.lines};
    crnn_characters_begin(at->characters);
    crnn_status status = crnn_reading_file(at->reading, input, take, at, &facts, err);
    if (status != CRNN_OK || facts.skipped)
        return status;
    crnn_shown(at->file->shown, input->path);
    at->file->path = strdup(input->path);
    if (!at->file->path)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the list of files");
    d->file_count++;
    d->totals.files++;
    d->totals.bytes += facts.bytes;
    status = crnn_squeezed_end(&at->text, err);
    int64_t lines = at->text.lines - at->file->first_line;
    d->totals.lines += lines;
    return status == CRNN_OK
               ? crnn_characters_end(at->characters, &d->findings, d->files, d->file_count - 1, lines, err)
               : status;
}

/* Training files first, so that what is held out repeats them and not they it. */
static crnn_status look_at_files(look *at, const crnn_inputs *inputs, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    int64_t bytes = 0;
    for (int i = 0; i < inputs->count; i++)
        bytes += inputs->items[i].skip ? 0 : inputs->items[i].bytes + 1;
    at->diagnosis->files = crnn_alloc((size_t)inputs->count, sizeof *at->diagnosis->files, "the list of files", err);
    if (!at->diagnosis->files)
        return CRNN_ERR_MEMORY;
    status = crnn_squeezed_reserve(&at->text, (size_t)bytes, err);
    for (int held_out = 0; held_out < 2; held_out++)
        for (int i = 0; i < inputs->count && status == CRNN_OK; i++)
            if (!inputs->items[i].skip && inputs->items[i].held_out == (held_out == 1))
                status = look_at_file(at, &inputs->items[i], err);
    crnn_reading_tell_skipped(at->reading);
    if (status == CRNN_OK && at->diagnosis->totals.characters == at->diagnosis->totals.val_characters)
        status = crnn_fail(err, CRNN_ERR_FORMAT, "there is no text in what was given");
    return status;
}

static crnn_status look_at_all(look *at, const crnn_inputs *inputs, crnn_error *err)
{
    crnn_diagnosis *d = at->diagnosis;
    crnn_status status = look_at_files(at, inputs, err);
    if (status == CRNN_OK)
        status = crnn_characters_finish(at->characters, &d->findings, d->files, err);
    if (status == CRNN_OK)
        status = crnn_repeats_look(&d->findings, &d->totals, &at->text, d->files, d->file_count, err);
    return status;
}

crnn_diagnosis *crnn_doctor_look(const char *const *paths, int count, const char *const *val_paths, int val_count,
                                 const crnn_text_options *options, crnn_error *err)
{
    look at = {.options = options ? *options : crnn_text_options_default()};
    crnn_inputs inputs = {0};
    crnn_status status = CRNN_ERR_MEMORY;
    at.diagnosis = crnn_alloc(1, sizeof *at.diagnosis, "a diagnosis", err);
    at.characters = crnn_characters_new(err);
    at.reading = crnn_reading_new(&at.options, err);
    if (!at.diagnosis || !at.characters || !at.reading)
        goto out;
    crnn_decoder_mark_bad(crnn_reading_decoder(at.reading));
    status = count < 1 ? crnn_fail(err, CRNN_ERR_ARGUMENT, "no text was given")
                       : crnn_inputs_find(&inputs, paths, count, val_paths, val_count, &at.options, err);
    if (status == CRNN_OK)
        status = look_at_all(&at, &inputs, err);
out:
    crnn_inputs_free(&inputs);
    crnn_reading_free(at.reading);
    crnn_characters_free(at.characters);
    crnn_squeezed_free(&at.text);
    if (status == CRNN_OK)
        return at.diagnosis;
    crnn_diagnosis_free(at.diagnosis);
    return NULL;
}

void crnn_diagnosis_free(crnn_diagnosis *diagnosis)
{
    if (!diagnosis)
        return;
    for (int i = 0; i < diagnosis->file_count; i++)
        free(diagnosis->files[i].path);
    free(diagnosis->files);
    crnn_findings_free(&diagnosis->findings);
    free(diagnosis);
}

int crnn_diagnosis_count(const crnn_diagnosis *diagnosis)
{
    int count = 0;
    for (int kind = 0; kind < CRNN_FINDING_KINDS; kind++)
        count += diagnosis->findings.count[kind];
    return count;
}

const crnn_finding *crnn_diagnosis_at(const crnn_diagnosis *diagnosis, int index)
{
    int kind = 0;
    while (index >= diagnosis->findings.count[kind])
        index -= diagnosis->findings.count[kind++];
    return &diagnosis->findings.kept[kind][index];
}

int64_t crnn_diagnosis_found(const crnn_diagnosis *diagnosis, crnn_finding_kind kind)
{
    return diagnosis->findings.found[kind];
}

crnn_diagnosis_totals crnn_diagnosis_total(const crnn_diagnosis *diagnosis)
{
    return diagnosis->totals;
}
