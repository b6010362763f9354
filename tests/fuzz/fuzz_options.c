/* Lines as the arguments of a command, or a JSON object as the options that a run stored. */
#include "fuzz.h"
#include "host/cli/options.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const opt_row rows[] = {
    {"val", OPT_LIST, NULL, "FILE", 0, 0, "a list", "Group"},
    {"val-split", OPT_REAL, "0.05", "F", 0, 0.9, "a real number", NULL},
    {"lr", OPT_REAL, "1e-3", "RATE", 0, 1000, "another", NULL},
    {"batch", OPT_INT, "64", "N", 1, 1 << 24, "a whole number", NULL},
    {"max-steps", OPT_INT, "0", "N", 0, 1e15, "a large one", NULL},
    {"seed", OPT_INT, "1", "N", 0, 9e18, "a very large one", NULL},
    {"batching", OPT_CHOICE, "streams", "streams|windows", 0, 0, "a choice", NULL},
    {"preset", OPT_CHOICE, NULL, "notebook|small", 0, 0, "a choice without a default", NULL},
    {"carry-epochs", OPT_FLAG, NULL, "", 0, 0, "a flag", "Another group"},
    {"out", OPT_TEXT, NULL, "DIR", 0, 0, "a text", NULL},
    {"encoding", OPT_TEXT, "utf-8", "NAME", 0, 0, "a text with a default", NULL},
};
enum { ROWS = sizeof rows / sizeof *rows, ARGUMENTS = 64 };

static opt_set fresh(void)
{
    return (opt_set){.command = "fuzz",
                     .purpose = "Takes anything.",
                     .usage = "fuzz [OPTION]... FILE...",
                     .wants = "files",
                     .least = 1,
                     .most = 3,
                     .rows = rows,
                     .row_count = ROWS};
}

/* Every value lies where its row says. */
static void look_at(const opt_set *set)
{
    for (int i = 0; i < ROWS; i++) {
        const opt_value *v = &set->values[i];
        ALWAYS(rows[i].type != OPT_REAL || (isfinite(v->real) && v->real >= rows[i].min && v->real <= rows[i].max));
        ALWAYS(rows[i].type != OPT_INT || ((double)v->integer >= rows[i].min && (double)v->integer <= rows[i].max));
        ALWAYS(rows[i].type != OPT_CHOICE || !v->text || strstr(rows[i].what, v->text));
        ALWAYS(rows[i].type != OPT_FLAG || v->integer == 0 || v->integer == 1);
    }
}

/* What can be stored comes back the same. */
static void store_and_restore(const opt_set *set)
{
    opt_set again = fresh();
    json_t *stored = opt_to_json(set, NULL, 0);
    if (!stored) /* a text that is no UTF-8 */
        return;
    ALWAYS(opt_parse(&again, 1, (char *[]){"file"}) == -1);
    ALWAYS(opt_from_json(&again, stored));
    json_t *second = opt_to_json(&again, NULL, 0);
    ALWAYS(json_equal(stored, second));
    json_decref(second);
    opt_free(&again);
    json_decref(stored);
}

static void as_arguments(char *text, size_t size)
{
    char *argv[ARGUMENTS];
    int argc = 0;
    opt_set set = fresh();
    for (char *at = text; at < text + size && argc < ARGUMENTS; at += strlen(at) + 1)
        argv[argc++] = at;
    if (opt_parse(&set, argc, argv) < 0) {
        ALWAYS(set.file_count >= 1 && set.file_count <= 3);
        look_at(&set);
        store_and_restore(&set);
    }
    opt_free(&set);
}

static void as_stored(const char *text, size_t size)
{
    opt_set set = fresh();
    json_t *stored = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    ALWAYS(opt_parse(&set, 1, (char *[]){"file"}) == -1);
    if (stored && opt_from_json(&set, stored)) {
        look_at(&set);
        store_and_restore(&set);
    }
    opt_free(&set);
    json_decref(stored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    ALWAYS(text);
    memcpy(text, data, size);
    text[size] = 0;
    if (size > 0 && data[0] == '{') {
        as_stored(text, size);
    } else {
        for (size_t i = 0; i < size; i++)
            text[i] = text[i] == '\n' ? '\0' : text[i];
        as_arguments(text, size);
    }
    free(text);
    return 0;
}
