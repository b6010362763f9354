/* options.h - one table of options a command: parsing, help, defaults and the keys of config.json all come from it.
 *
 * Every mistake of the caller is one sentence on standard error that names the option, and exit status 2.
 */
#ifndef CRNN_CLI_OPTIONS_H
#define CRNN_CLI_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { OPT_FLAG, OPT_INT, OPT_REAL, OPT_TEXT, OPT_CHOICE, OPT_LIST } opt_type;

/* One row. The first row of a group names it; rows after it belong to it. */
typedef struct {
    const char *name; /* without the dashes */
    opt_type type;
    const char *preset; /* default as text; NULL: none */
    const char *what;   /* placeholder in the help; choices as a|b|c */
    double min, max;    /* of numbers, inclusive */
    const char *help;
    const char *group; /* non-NULL begins a group */
} opt_row;

typedef struct {
    bool given; /* on the command line */
    int64_t integer;
    double real;
    const char *text; /* of texts and choices; NULL where there is none */
    const char **list;
    int count;
} opt_value;

/* A command's options as parsed. */
typedef struct {
    const char *command;
    const char *purpose, *usage, *examples;
    const char *wants; /* the files it takes, after "name"; NULL: none */
    int least, most;   /* number of files; most 0: any, where it takes some */
    const opt_row *rows;
    int row_count;
    opt_value *values;  /* [row_count] */
    const char **files; /* arguments that are no options */
    int file_count;
} opt_set;

/* Exit statuses of the program. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DATA = 3, EXIT_DEVICE = 4, EXIT_DIVERGED = 5 };

/* Parses argv[0..argc) (after the command's name). Returns -1 to go on, or the exit status to end with (help was printed, or a mistake told).
 * Defaults are in place before; given ones replace them. */
int opt_parse(opt_set *set, int argc, char **argv);
void opt_free(opt_set *set);

/* The row's value; the name must exist. */
opt_value *opt_get(const opt_set *set, const char *name);
int64_t opt_int(const opt_set *set, const char *name);
float opt_real(const opt_set *set, const char *name);
bool opt_flag(const opt_set *set, const char *name);
const char *opt_text(const opt_set *set, const char *name);
bool opt_given(const opt_set *set, const char *name);
/* Sets a value from text as a default would, unless it was given. False where the text does not fit the row. */
bool opt_default(opt_set *set, const char *name, const char *text);

/* Every option but some with its resolved value; NULL where a text is not UTF-8 and cannot be stored (or without memory). */
json_t *opt_to_json(const opt_set *set, const char *const *but, int but_count);
/* Takes values from an object made by opt_to_json, but for those given on the command line. */
bool opt_from_json(opt_set *set, const json_t *object);

/* The nearest of the words to a misspelt one, or NULL where none is near. */
const char *opt_nearest(const char *word, const char *const *words, int count);

#endif
