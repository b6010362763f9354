/* setup.h - what a run is trained from: options, texts and device, as the command line or a stored run names them. */
#ifndef CRNN_CLI_SETUP_H
#define CRNN_CLI_SETUP_H

#include "host/cli/cli.h"
#include <limits.h>

typedef struct {
    opt_set set; /* of `train`, whichever command it is for */
    char out[PATH_MAX];
    crnn_corpus *corpus;
    crnn_checkpoint *from; /* newest checkpoint of the run that goes on, or NULL */
    crnn_device_config device;
    crnn_train_options options; /* borrows from the rest */

    json_t *stored; /* options of the run that goes on; their strings are borrowed from it */
    char *options_json;
    char **texts; /* paths of its own that set holds */
    int text_count;
    int64_t keep;
} cli_setup;

/* The options of `train`. */
extern const opt_row cli_setup_rows[];
extern const int cli_setup_row_count;

/* From set, which is parsed. -1, or the exit status to end with, its reason told. Free it either way. */
int cli_setup_given(cli_setup *s);
/* From a stored run, for `command`, which trains it again. The same. replay: borrowed as long. */
int cli_setup_stored(cli_setup *s, const char *command, const crnn_replay *replay);
void cli_setup_free(cli_setup *s);

#endif
