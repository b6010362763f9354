#include "host/base/json.h"
#include <stdbool.h>
#include <string.h>

/* Brackets and commas outside strings: nesting, and an upper limit of the number of values, as each follows one of them but the first. */
static void survey(const char *text, size_t size, int *deepest, size_t *values)
{
    int depth = 0;
    bool quoted = false;
    *deepest = 0;
    *values = 1;
    for (size_t i = 0; i < size; i++) {
        if (quoted) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                quoted = false;
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{' || text[i] == '[') {
            *deepest = ++depth > *deepest ? depth : *deepest;
            ++*values;
        } else if (text[i] == '}' || text[i] == ']') {
            depth--;
        } else if (text[i] == ',') {
            ++*values;
        }
    }
}

json_t *crnn_json_read(const char *text, size_t size, int depth, size_t values, const char *what, crnn_error *err)
{
    json_error_t problem = {.text = ""};
    int deepest;
    size_t count;
    survey(text, size, &deepest, &count);
    if (deepest > depth) {
        crnn_fail(err, CRNN_ERR_FORMAT, "%s is nested too deeply", what);
        return NULL;
    }
    if (count > values) {
        crnn_fail(err, CRNN_ERR_FORMAT, "%s has more than %zu values", what, values);
        return NULL;
    }
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (json_is_object(object))
        return object;
    /* Jansson finds no words for most failures to allocate. */
    if (!object && (!problem.text[0] || json_error_code(&problem) == json_error_out_of_memory)) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %s has %zu bytes", what, size);
        return NULL;
    }
    crnn_fail(err, CRNN_ERR_FORMAT, "%s is no JSON object (%.100s)", what, object ? "another value" : problem.text);
    json_decref(object);
    return NULL;
}
