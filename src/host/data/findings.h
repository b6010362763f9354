/* findings.h - what the doctor's parts share: the files that were looked at, and the list of what was found in them. */
#ifndef CRNN_DATA_FINDINGS_H
#define CRNN_DATA_FINDINGS_H

#include "host/base/escape.h"
#include <crnn/doctor.h>

typedef struct {
    char *path;
    char shown[CRNN_SHOWN];
    bool held_out;
    int64_t begin, first_line; /* in the squeezed text: its first byte, and the line ends before that */
} crnn_looked_file;

typedef struct {
    crnn_finding *kept[CRNN_FINDING_KINDS]; /* in the order they came */
    int count[CRNN_FINDING_KINDS];
    int64_t found[CRNN_FINDING_KINDS]; /* those that were not kept included */
} crnn_findings;

/* The place of a line (from 1) of a file. */
crnn_place crnn_place_at(const crnn_looked_file *file, int64_t line);

/* Adds a finding. places: [place_count], copied; format: of its sentence. */
crnn_status crnn_findings_add(crnn_findings *list, crnn_finding finding, crnn_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same with one place. */
#define crnn_findings_at(list, kind_, file, line, count_, err, ...)                                                    \
    crnn_findings_add((list),                                                                                          \
                      (crnn_finding){.kind = (kind_),                                                                  \
                                     .places = (crnn_place[]){crnn_place_at((file), (line))},                          \
                                     .place_count = 1,                                                                 \
                                     .count = (count_)},                                                               \
                      (err), __VA_ARGS__)
void crnn_findings_free(crnn_findings *list);

#endif
