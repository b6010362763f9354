#include "host/cli/cli.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- numbers, strictly ------------------------------------------------------------------------------------------------- */

static bool parse_integer(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    *out = value;
    return end != text && *end == 0 && errno == 0 && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

static bool parse_real(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && *end == 0 && errno == 0 && isfinite(*out) && !strchr(text, 'x') && text[0] != ' ';
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == 0) && length)
            return true;
    return false;
}

/* Puts text into the value of row. False where it does not fit. */
static bool set_value(const opt_row *row, opt_value *value, const char *text)
{
    switch (row->type) {
    case OPT_FLAG:
        value->integer = strcmp(text, "true") == 0;
        return true;
    case OPT_INT:
        return parse_integer(text, &value->integer) && (double)value->integer >= row->min &&
               (double)value->integer <= row->max;
    case OPT_REAL:
        return parse_real(text, &value->real) && value->real >= row->min && value->real <= row->max;
    case OPT_CHOICE:
        value->text = text;
        return is_choice(row->what, text);
    case OPT_LIST: {
        const char **more = realloc(value->list, ((size_t)value->count + 1) * sizeof *more);
        if (!more)
            return false;
        value->list = more;
        value->list[value->count++] = text;
        return true;
    }
    default:
        value->text = text;
        return true;
    }
}

/* What the row takes, for a message. */
static void describe(const opt_row *row, char *out, size_t size)
{
    if (row->type == OPT_INT)
        snprintf(out, size, "a whole number from %.0f to %.0f", row->min, row->max);
    else if (row->type == OPT_REAL)
        snprintf(out, size, "a number from %g to %g", row->min, row->max);
    else
        snprintf(out, size, "one of %s", row->what);
}

/* --- suggestions -------------------------------------------------------------------------------------------------------- */

/* Edits (insert, delete, replace, swap of neighbours) from a to b; words longer than 31 bytes count as far. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), d[32][32];
    if (n > 31 || m > 31)
        return 99;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *opt_nearest(const char *word, const char *const *words, int count)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < count; i++) {
        int far = distance(word, words[i]);
        if (far < least) {
            least = far;
            best = words[i];
        }
    }
    return best;
}

/* --- help --------------------------------------------------------------------------------------------------------------- */

static void print_help(const opt_set *set)
{
    printf("%s\n\nUsage: crnn-gpu %s\n", set->purpose, set->usage);
    if (set->examples)
        printf("\nExamples:\n%s", set->examples);
    for (int i = 0; i < set->row_count; i++) {
        const opt_row *row = &set->rows[i];
        char left[64];
        if (row->group)
            printf("\n%s:\n", row->group);
        snprintf(left, sizeof left, row->type == OPT_FLAG ? "--%s" : "--%s %s", row->name, row->what);
        if (strlen(left) > 26)
            printf("  %s\n  %-26s %s", left, "", row->help);
        else
            printf("  %-26s %s", left, row->help);
        if (row->preset && row->type != OPT_FLAG)
            printf(" [%s]", row->preset);
        printf("\n");
    }
    printf("\n  %-26s %s\n", "--help", "this text");
}

/* --- parsing ------------------------------------------------------------------------------------------------------------- */

static int find(const opt_set *set, const char *name, size_t length)
{
    for (int i = 0; i < set->row_count; i++)
        if (strlen(set->rows[i].name) == length && strncmp(set->rows[i].name, name, length) == 0)
            return i;
    return -1;
}

opt_value *opt_get(const opt_set *set, const char *name)
{
    int i = find(set, name, strlen(name));
    if (i < 0)
        abort(); /* a name that the table lacks: a mistake of ours, met by the first test of the command */
    return &set->values[i];
}

static int unknown(const opt_set *set, const char *name, size_t length)
{
    char word[CLI_WORD];
    const char *words[80];
    int count = set->row_count < 80 ? set->row_count : 80;
    crnn_escape(word, sizeof word, name, length, false);
    for (int i = 0; i < count; i++)
        words[i] = set->rows[i].name;
    const char *near = opt_nearest(word, words, count);
    fprintf(stderr, "crnn-gpu %s: there is no option --%s%s%s%s; see crnn-gpu %s --help\n", set->command, word,
            near ? ", did you mean --" : "", near ? near : "", near ? "?" : "", set->command);
    return EXIT_USAGE;
}

static int take_option(opt_set *set, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2, *equals = strchr(name, '='), *text = equals ? equals + 1 : NULL;
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    int i = find(set, name, length);
    if (i < 0)
        return unknown(set, name, length);
    const opt_row *row = &set->rows[i];
    opt_value *value = &set->values[i];
    if (row->type == OPT_FLAG) {
        if (text) {
            fprintf(stderr, "crnn-gpu %s: --%s takes no value\n", set->command, row->name);
            return EXIT_USAGE;
        }
        text = "true";
    } else if (!text) {
        if (*at + 1 >= argc) {
            fprintf(stderr, "crnn-gpu %s: --%s needs a value: %s\n", set->command, row->name, row->what);
            return EXIT_USAGE;
        }
        text = argv[++*at];
    }
    value->given = true;
    if (set_value(row, value, text))
        return -1;
    char wanted[200], word[CLI_WORD];
    describe(row, wanted, sizeof wanted);
    fprintf(stderr, "crnn-gpu %s: --%s takes %s, not '%s'\n", set->command, row->name, wanted, cli_word(word, text));
    return EXIT_USAGE;
}

static int check_files(const opt_set *set)
{
    if (set->wants && set->file_count < set->least) {
        fprintf(stderr, "crnn-gpu %s: name %s (crnn-gpu %s --help)\n", set->command, set->wants, set->command);
        return EXIT_USAGE;
    }
    if (set->wants && (!set->most || set->file_count <= set->most))
        return -1;
    if (!set->file_count)
        return -1;
    char word[CLI_WORD];
    fprintf(stderr, "crnn-gpu %s: one argument too many: '%s' (crnn-gpu %s --help)\n", set->command,
            cli_word(word, set->files[set->wants ? set->most : 0]), set->command);
    return EXIT_USAGE;
}

int opt_parse(opt_set *set, int argc, char **argv)
{
    set->values = calloc((size_t)set->row_count, sizeof *set->values);
    set->files = calloc((size_t)argc + 1, sizeof *set->files);
    if (!set->values || !set->files) {
        fprintf(stderr, "crnn-gpu %s: out of memory for the options\n", set->command);
        return EXIT_FAILED;
    }
    for (int i = 0; i < set->row_count; i++)
        if (set->rows[i].preset)
            set_value(&set->rows[i], &set->values[i], set->rows[i].preset);
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(set);
            return EXIT_DONE;
        } else if (options && argv[i][0] == '-' && argv[i][1] == '-') {
            int status = take_option(set, argc, argv, &i);
            if (status >= 0)
                return status;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            char word[CLI_WORD];
            fprintf(stderr, "crnn-gpu %s: options begin with two dashes: '%s'\n", set->command,
                    cli_word(word, argv[i]));
            return EXIT_USAGE;
        } else {
            set->files[set->file_count++] = argv[i];
        }
    }
    return check_files(set);
}

void opt_free(opt_set *set)
{
    for (int i = 0; set->values && i < set->row_count; i++)
        free(set->values[i].list);
    free(set->values);
    free(set->files);
}

int64_t opt_int(const opt_set *set, const char *name)
{
    return opt_get(set, name)->integer;
}

float opt_real(const opt_set *set, const char *name)
{
    return (float)opt_get(set, name)->real;
}

bool opt_flag(const opt_set *set, const char *name)
{
    return opt_get(set, name)->integer != 0;
}

const char *opt_text(const opt_set *set, const char *name)
{
    return opt_get(set, name)->text;
}

bool opt_given(const opt_set *set, const char *name)
{
    return opt_get(set, name)->given;
}

bool opt_default(opt_set *set, const char *name, const char *text)
{
    int i = find(set, name, strlen(name));
    return i >= 0 && (set->values[i].given || set_value(&set->rows[i], &set->values[i], text));
}

/* --- to and from config.json ---------------------------------------------------------------------------------------------- */

static json_t *value_to_json(const opt_row *row, const opt_value *value)
{
    json_t *list;
    switch (row->type) {
    case OPT_FLAG:
        return json_boolean(value->integer);
    case OPT_INT:
        return json_integer(value->integer);
    case OPT_REAL:
        return json_real(value->real);
    case OPT_LIST:
        list = json_array();
        for (int i = 0; i < value->count; i++)
            if (json_array_append_new(list, json_string(value->list[i])) != 0) {
                json_decref(list);
                return NULL;
            }
        return list;
    default:
        return value->text ? json_string(value->text) : json_null();
    }
}

json_t *opt_to_json(const opt_set *set, const char *const *but, int but_count)
{
    json_t *object = json_object();
    for (int i = 0; object && i < set->row_count; i++) {
        bool wanted = true;
        for (int k = 0; k < but_count; k++)
            wanted = wanted && strcmp(set->rows[i].name, but[k]) != 0;
        if (wanted &&
            json_object_set_new(object, set->rows[i].name, value_to_json(&set->rows[i], &set->values[i])) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static bool list_from_json(const opt_row *row, opt_value *value, const json_t *json)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json, i, item)
    {
        const char *text = json_string_value(item);
        if (!text || !set_value(row, value, text))
            return false;
    }
    return json_typeof(json) == JSON_ARRAY;
}

static bool value_from_json(const opt_row *row, opt_value *value, const json_t *json)
{
    if (!json || json_typeof(json) == JSON_NULL)
        return true;
    const json_type type = json_typeof(json);
    const char *text = json_string_value(json);
    switch (row->type) {
    case OPT_FLAG:
        value->integer = type == JSON_TRUE;
        return type == JSON_TRUE || type == JSON_FALSE;
    case OPT_INT:
        value->integer = json_integer_value(json);
        return type == JSON_INTEGER && (double)value->integer >= row->min && (double)value->integer <= row->max;
    case OPT_REAL:
        value->real = json_number_value(json);
        return (type == JSON_INTEGER || type == JSON_REAL) && value->real >= row->min && value->real <= row->max;
    case OPT_LIST:
        return list_from_json(row, value, json);
    default:
        return text && set_value(row, value, text);
    }
}

bool opt_from_json(opt_set *set, const json_t *object)
{
    for (int i = 0; i < set->row_count; i++)
        if (!set->values[i].given &&
            !value_from_json(&set->rows[i], &set->values[i], json_object_get(object, set->rows[i].name)))
            return false;
    return true;
}
