/* remember.c - what was measured, kept for the next time. A file that is not there, is damaged or says something else is as good as none. */
#include "host/base/files.h"
#include "host/base/json.h"
#include "host/base/memory.h"
#include "host/base/sha256.h"
#include "kernels/cuda/choose.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 16, DEPTH = 3, VALUES = 100 };
static const char format[] = "crnn-gpu ways to compute a recurrent layer";

/* By the XDG base directory specification, which takes absolute paths alone. */
static char *folder_of_caches(crnn_error *err)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool given = base && base[0] == '/';
    if (!given && !(home && home[0] == '/')) {
        crnn_fail(err, CRNN_ERR_IO, "neither XDG_CACHE_HOME nor HOME names a folder");
        return NULL;
    }
    char *folder = given ? crnn_format("%s/crnn-gpu", base) : crnn_format("%s/.cache/crnn-gpu", home);
    if (!folder)
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    return folder;
}

/* A name that belongs to the key; the key itself stands in the file. */
static bool name_file(char name[64], const char *key)
{
    uint8_t digest[32];
    char hex[65];
    crnn_sha256 *hash = crnn_sha256_new();
    bool ok = hash && crnn_sha256_add(hash, key, strlen(key)) && crnn_sha256_end(hash, digest);
    crnn_sha256_free(hash);
    if (ok) {
        crnn_sha256_hex(hex, digest);
        snprintf(name, 64, "rnn-%.32s.json", hex);
    }
    return ok;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static bool read_seconds(double *seconds, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    *seconds = json_number_value(value);
    return json_is_number(value) && isfinite(*seconds) && *seconds >= 0;
}

static bool read_text(char *to, size_t size, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= size)
        return false;
    memcpy(to, text, strlen(text) + 1);
    return true;
}

static bool read_candidate(crnn_rnn_candidate *c, const json_t *object)
{
    *c = (crnn_rnn_candidate){0};
    if (!read_text(c->name, sizeof c->name, object, "name") || !read_text(c->why, sizeof c->why, object, "why"))
        return false;
    return c->why[0] || (read_seconds(&c->forward_seconds, object, "forward_seconds") &&
                         read_seconds(&c->backward_seconds, object, "backward_seconds") &&
                         read_seconds(&c->difference, object, "difference"));
}

/* All ways that there are, in their order: a table of others was made by another program. */
static bool read_table(crnn_rnn_choice *choice, const json_t *json, const char *key)
{
    const json_t *candidates = json_object_get(json, "candidates");
    const char *is = json_string_value(json_object_get(json, "format")),
               *of = json_string_value(json_object_get(json, "key"));
    if (!is || strcmp(is, format) != 0 || !of || strcmp(of, key) != 0 || json_array_size(candidates) != CRNN_GRU_WAYS)
        return false;
    choice->count = CRNN_GRU_WAYS;
    for (int32_t i = 0; i < choice->count; i++)
        if (!read_candidate(&choice->candidates[i], json_array_get(candidates, (size_t)i)) ||
            strcmp(choice->candidates[i].name, crnn_gru_ways[i].name) != 0)
            return false;
    return crnn_rnn_fastest(choice) >= 0;
}

bool crnn_rnn_recall(crnn_rnn_choice *choice, const char *key)
{
    char name[64], *folder = folder_of_caches(NULL), *path = NULL, *text = NULL;
    size_t size = 0;
    json_t *json = NULL;
    if (folder && name_file(name, key))
        path = crnn_format("%s/%s", folder, name);
    if (path)
        text = crnn_read_file(path, MAX_FILE, &size, NULL);
    if (text)
        json = crnn_json_read(text, size, DEPTH, VALUES, path, NULL);
    bool found = json && read_table(choice, json, key);
    if (!found)
        choice->count = 0;
    json_decref(json);
    free(text);
    free(path);
    free(folder);
    return found;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static json_t *candidate_json(const crnn_rnn_candidate *c)
{
    if (c->why[0])
        return json_pack("{s:s, s:s}", "name", c->name, "why", c->why);
    return json_pack("{s:s, s:s, s:f, s:f, s:f}", "name", c->name, "why", c->why, "forward_seconds", c->forward_seconds,
                     "backward_seconds", c->backward_seconds, "difference", c->difference);
}

static char *table_text(const crnn_rnn_choice *choice, const char *key)
{
    json_t *candidates = json_array(), *json = NULL;
    bool ok = candidates != NULL;
    for (int32_t i = 0; ok && i < choice->count; i++)
        ok = json_array_append_new(candidates, candidate_json(&choice->candidates[i])) == 0;
    if (ok)
        json = json_pack("{s:s, s:s, s:O}", "format", format, "key", key, "candidates", candidates);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    json_decref(candidates);
    return text;
}

crnn_status crnn_rnn_remember(const crnn_rnn_choice *choice, const char *key, crnn_error *err)
{
    char name[64], *folder = folder_of_caches(err), *text = NULL;
    crnn_status status = CRNN_ERR_IO;
    if (!folder)
        return status;
    if (name_file(name, key))
        text = table_text(choice, key);
    if (!text)
        status = crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a table");
    else if ((status = crnn_make_directories(folder, err)) == CRNN_OK)
        status = crnn_write_file_durably(folder, name, text, strlen(text), err);
    free(text);
    free(folder);
    return status;
}
