/* said.h - what a run of the program must have said. Each shows the text at hand where it did not. */
#ifndef CRNN_TESTS_SAID_H
#define CRNN_TESTS_SAID_H

#include "support/cmocka.h"
#include "support/program.h"
#include <jansson.h>
#include <string.h>

/* Names what is missing, with the text around. */
#define assert_holds(text, piece)                                                                                      \
    do {                                                                                                               \
        if (!strstr((text), (piece)))                                                                                  \
            fail_msg("'%s' is missing in:\n%s", (piece), (text));                                                      \
    } while (0)

/* The run ended with the status, and the last line of standard error is one sentence of the command that holds the piece. */
#define assert_refused(run, wanted, piece)                                                                             \
    do {                                                                                                               \
        const char *begin = strstr((run).err, "crnn-gpu");                                                             \
        if ((run).status != (wanted))                                                                                  \
            fail_msg("status %d, not %d: %s", (run).status, (wanted), (run).err);                                      \
        assert_holds((run).err, piece);                                                                                \
        assert_non_null(begin);                                                                                        \
        assert_ptr_equal(strchr(begin, '\n'), strrchr(begin, '\n'));                                                   \
    } while (0)

#define assert_done(run)                                                                                               \
    do {                                                                                                               \
        if ((run).status != 0)                                                                                         \
            fail_msg("status %d: %s", (run).status, (run).err);                                                        \
    } while (0)

/* Standard output as one JSON object; json_decref it. */
static inline json_t *json_of(program_run run)
{
    json_error_t problem;
    json_t *json = json_loads(run.out, 0, &problem);
    if (!json)
        fail_msg("no JSON object: %s in %s", problem.text, run.out);
    return json;
}

#endif
