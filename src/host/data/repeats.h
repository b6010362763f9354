/* repeats.h - findings about passages: those that occur more than once, and held-out ones that are trained on. */
#ifndef CRNN_DATA_REPEATS_H
#define CRNN_DATA_REPEATS_H

#include "host/data/findings.h"
#include "host/data/squeezed.h"

/* files: [file_count], in the order of their text, those held out last. Adds to totals' repeated and overlapping characters. */
crnn_status crnn_repeats_look(crnn_findings *findings, crnn_diagnosis_totals *totals, const crnn_squeezed *text,
                              const crnn_looked_file *files, int file_count, crnn_error *err);

#endif
