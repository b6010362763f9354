#include "host/train/config.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/json.h"
#include "host/base/memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 20, DEPTH = 3, VALUES = 1 << 15 };

/* What must be there: integers in a range, or strings. */
static const struct {
    const char *object, *key;
    int64_t least, most; /* -1: a string */
} wanted[] = {
    {"options", "batching", -1, -1},
    {"options", "batch", 1, INT32_MAX},
    {"options", "length", 1, INT32_MAX},
    {"options", "shuffle-buffer", 1, INT64_MAX},
    {"options", "seed", INT64_MIN, INT64_MAX}, /* 64 bits without a sign */
    {"options", "log-every", 0, INT64_MAX},
    {"device", "kind", -1, -1},
    {"device", "name", -1, -1},
    {"device", "versions", -1, -1},
    {"device", "threads", 0, INT32_MAX},
    {"model", "vocab", 1, CRNN_MAX_VOCAB},
    {"model", "embedding", 1, INT32_MAX},
    {"model", "units", 1, INT32_MAX},
    {"model", "layers", 1, INT32_MAX},
    {"model", "parameters", 1, INT64_MAX},
    {"corpus", "characters", 1, INT64_MAX},
    {"corpus", "val_characters", 0, INT64_MAX},
    {"corpus", "sha256", -1, -1},
};

static crnn_status check(const json_t *config, const char *shown, crnn_error *err)
{
    const char *format = json_string_value(json_object_get(config, "format"));
    if (!format || strcmp(format, "crnn-gpu run") != 0)
        return crnn_fail(err, CRNN_ERR_FORMAT, "%s: it is no config.json of a run", shown);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const json_t *value = json_object_get(json_object_get(config, wanted[i].object), wanted[i].key);
        const json_type type = value ? json_typeof(value) : JSON_NULL;
        const int64_t number = json_integer_value(value);
        if (type != (wanted[i].most < 0 ? JSON_STRING : JSON_INTEGER) ||
            (type == JSON_INTEGER && (number < wanted[i].least || number > wanted[i].most)))
            return crnn_fail(err, CRNN_ERR_FORMAT, "%s: it has no usable %s.%s", shown, wanted[i].object,
                             wanted[i].key);
    }
    return CRNN_OK;
}

json_t *crnn_config_read(const char *directory, crnn_error *err)
{
    char shown[CRNN_SHOWN], what[CRNN_SHOWN + 4], *path = crnn_format("%s/config.json", directory), *text = NULL;
    json_t *config = NULL;
    size_t size;
    if (!path) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        return NULL;
    }
    crnn_shown(shown, path);
    text = crnn_read_file(path, MAX_CONFIG, &size, err);
    if (!text)
        goto out;
    snprintf(what, sizeof what, "%s: it", shown);
    config = crnn_json_read(text, size, DEPTH, VALUES, what, err);
    if (config && check(config, shown, err) != CRNN_OK) {
        json_decref(config);
        config = NULL;
    }
out:
    free(text);
    free(path);
    return config;
}

int64_t crnn_config_whole(const json_t *config, const char *object, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(config, object), key));
}

crnn_status crnn_config_steps(const json_t *config, int64_t *steps_per_epoch, crnn_error *err)
{
    const char *batching = json_string_value(json_object_get(json_object_get(config, "options"), "batching"));
    int64_t sequences;
    crnn_batches_config how = {.batching = strcmp(batching, "windows") == 0 ? CRNN_WINDOWS : CRNN_STREAMS,
                               .characters = crnn_config_whole(config, "corpus", "characters"),
                               .B = (int32_t)crnn_config_whole(config, "options", "batch"),
                               .T = (int32_t)crnn_config_whole(config, "options", "length"),
                               .shuffle_buffer = crnn_config_whole(config, "options", "shuffle-buffer"),
                               .seed = (uint64_t)crnn_config_whole(config, "options", "seed")};
    return crnn_batches_count(&how, &sequences, steps_per_epoch, err);
}
