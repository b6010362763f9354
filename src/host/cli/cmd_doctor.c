/* crnn-gpu doctor: what is wrong with texts, before anyone trains on them. */
#include "host/cli/cli.h"
#include <stdio.h>
#include <stdlib.h>

static const opt_row rows[] = {
    {"val", OPT_LIST, NULL, "FILE", 0, 0, "a text held out of training; may be given again", "Text"},
    CLI_ENCODING_ROW,
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
};

/* --- as JSON -------------------------------------------------------------------------------------------------------------- */

/* A path as it is, or escaped where it is no UTF-8. */
static json_t *path_json(const crnn_place *place)
{
    json_t *path = json_string(place->path);
    return path ? path : json_string(place->shown);
}

static json_t *places_json(const crnn_finding *f)
{
    json_t *places = json_array();
    for (int i = 1; i < f->place_count; i++)
        json_array_append_new(
            places, json_pack("{s:o, s:I}", "path", path_json(&f->places[i]), "line", (json_int_t)f->places[i].line));
    return places;
}

static void print_json(const crnn_diagnosis *d)
{
    crnn_diagnosis_totals t = crnn_diagnosis_total(d);
    json_t *findings = json_array(), *found = json_object();
    for (int i = 0; i < crnn_diagnosis_count(d); i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        json_array_append_new(findings,
                              json_pack("{s:s, s:o, s:I, s:s, s:s, s:I, s:I, s:o}", "kind", crnn_finding_name(f->kind),
                                        "path", path_json(f->places), "line", (json_int_t)f->places->line, "what",
                                        f->what, "advice", crnn_finding_advice(f->kind), "count", (json_int_t)f->count,
                                        "characters", (json_int_t)f->characters, "also", places_json(f)));
    }
    for (int kind = 0; kind < CRNN_FINDING_KINDS; kind++)
        json_object_set_new(found, crnn_finding_name((crnn_finding_kind)kind),
                            json_integer(crnn_diagnosis_found(d, (crnn_finding_kind)kind)));
    cli_print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "files", (json_int_t)t.files, "bytes",
                             (json_int_t)t.bytes, "characters", (json_int_t)t.characters, "lines", (json_int_t)t.lines,
                             "held_out_characters", (json_int_t)t.val_characters, "repeated_characters",
                             (json_int_t)t.repeated_characters, "overlap_characters", (json_int_t)t.overlap_characters,
                             "found", found, "findings", findings));
}

/* --- for a person --------------------------------------------------------------------------------------------------------- */

static void print_finding(const crnn_finding *f)
{
    printf("  %s:%lld: %s\n", f->places->shown, (long long)f->places->line, f->what);
    for (int i = 1; i < f->place_count; i++)
        printf("      %s %s:%lld\n", f->kind == CRNN_FINDING_OVERLAP ? "trained on at" : "again at", f->places[i].shown,
               (long long)f->places[i].line);
    if (f->kind == CRNN_FINDING_REPEATED && f->count > f->place_count)
        printf("      and %lld times more\n", (long long)(f->count - f->place_count));
}

static void print_share(const crnn_diagnosis_totals *t, crnn_finding_kind kind)
{
    if (kind == CRNN_FINDING_REPEATED)
        printf("  %.1f %% of all characters repeat earlier ones\n",
               100 * (double)t->repeated_characters / (double)t->characters);
    if (kind == CRNN_FINDING_OVERLAP)
        printf("  %.1f %% of the held-out characters\n",
               100 * (double)t->overlap_characters / (double)t->val_characters);
}

static void print_text(const crnn_diagnosis *d)
{
    crnn_diagnosis_totals t = crnn_diagnosis_total(d);
    int count = crnn_diagnosis_count(d), kind = -1;
    for (int i = 0; i < count; i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        if ((int)f->kind != kind) {
            kind = (int)f->kind;
            printf("%s\n  -> %s\n", crnn_finding_title(f->kind), crnn_finding_advice(f->kind));
            print_share(&t, f->kind);
        }
        print_finding(f);
        int64_t found = crnn_diagnosis_found(d, f->kind);
        bool last = i + 1 == count || crnn_diagnosis_at(d, i + 1)->kind != f->kind;
        if (last && found > CRNN_MAX_FINDINGS)
            printf("  and %lld more\n", (long long)(found - CRNN_MAX_FINDINGS));
        if (last)
            printf("\n");
    }
    printf("%lld file%s, %lld line%s, %lld characters: ", (long long)t.files, t.files == 1 ? "" : "s",
           (long long)t.lines, t.lines == 1 ? "" : "s", (long long)t.characters);
    printf(count ? "%d finding%s\n" : "nothing found\n", count, count == 1 ? "" : "s");
}

int cmd_doctor(int argc, char **argv)
{
    opt_set set = {
        .command = "doctor",
        .purpose = "Looks at texts before anyone trains on them: repeated passages, held-out text that is trained\n"
                   "on, licences of e-books, invalid bytes, control characters, mixed line endings, accents that\n"
                   "are written in two ways, rare characters. Changes nothing. Exit status 0 when it could look,\n"
                   "whatever it found; 3 where a text cannot be read.",
        .usage = "doctor [OPTION]... FILE...",
        .examples = "  crnn-gpu doctor book.txt\n  crnn-gpu doctor --val last-book.txt 'books/*.txt'\n"
                    "  crnn-gpu doctor --json book.txt | jq '.findings[] | select(.kind == \"repeated-passage\")'\n",
        .wants = "files, folders or quoted globs",
        .least = 1,
        .rows = rows,
        .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0) {
        crnn_error err = {0};
        crnn_text_options options = crnn_text_options_default();
        const opt_value *val = opt_get(&set, "val");
        options.encoding = opt_text(&set, "encoding");
        options.note = cli_note;
        crnn_diagnosis *diagnosis = crnn_doctor_look(set.files, set.file_count, val->list, val->count, &options, &err);
        if (diagnosis)
            (opt_flag(&set, "json") ? print_json : print_text)(diagnosis);
        else
            cli_fail("doctor", &err);
        status = diagnosis ? EXIT_DONE : err.status == CRNN_ERR_ARGUMENT ? EXIT_USAGE : EXIT_DATA;
        crnn_diagnosis_free(diagnosis);
    }
    opt_free(&set);
    return status;
}
