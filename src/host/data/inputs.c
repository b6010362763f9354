#include "host/data/inputs.h"
#include "host/base/escape.h"
#include "host/base/memory.h"
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void crnn_note(const crnn_text_options *options, const char *format, ...)
{
    char sentence[640];
    if (!options->note)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    options->note(options->user, sentence);
}

void crnn_skipped_add(crnn_skipped *skipped, const char *path)
{
    char shown[CRNN_SHOWN];
    size_t used = strlen(skipped->names);
    if (skipped->count < 3)
        snprintf(skipped->names + used, sizeof skipped->names - used, "%s%s", skipped->count ? ", " : "",
                 crnn_shown(shown, path));
    skipped->count++;
}

void crnn_skipped_tell(const crnn_skipped *skipped, const char *before, const char *after,
                       const crnn_text_options *options)
{
    char more[32] = "";
    if (skipped->count == 0)
        return;
    if (skipped->count > 3)
        snprintf(more, sizeof more, " and %d more", skipped->count - 3);
    crnn_note(options, "skipped %d %s%s%s: %s%s", skipped->count, before, skipped->count == 1 ? "file" : "files", after,
              skipped->names, more);
}

void crnn_inputs_free(crnn_inputs *inputs)
{
    for (int i = 0; i < inputs->count; i++)
        free(inputs->items[i].path);
    free(inputs->items);
    *inputs = (crnn_inputs){0};
}

/* Takes path over, whatever happens. */
static crnn_status add(crnn_inputs *inputs, char *path, const struct stat *info, bool named, bool held_out,
                       crnn_error *err)
{
    if (path && inputs->count == inputs->capacity && inputs->capacity <= INT_MAX / 2) {
        int capacity = inputs->capacity ? 2 * inputs->capacity : 16;
        crnn_input *items = realloc(inputs->items, (size_t)capacity * sizeof *items);
        if (items) {
            inputs->items = items;
            inputs->capacity = capacity;
        }
    }
    if (!path || inputs->count == inputs->capacity) {
        free(path);
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the list of files");
    }
    inputs->items[inputs->count] = (crnn_input){.path = path,
                                                .named = named,
                                                .held_out = held_out,
                                                .order = inputs->count,
                                                .device = info->st_dev,
                                                .inode = info->st_ino,
                                                .bytes = (int64_t)info->st_size};
    inputs->count++;
    return CRNN_OK;
}

/* A name that a directory or a glob brought: of interest where it is a regular file, or a link to one. */
static crnn_status add_found(crnn_inputs *inputs, char *path, bool held_out, crnn_error *err)
{
    struct stat info;
    if (path && (stat(path, &info) != 0 || !S_ISREG(info.st_mode))) {
        free(path);
        return CRNN_OK;
    }
    return add(inputs, path, &info, false, held_out, err);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int shown_only(const struct dirent *entry)
{
    return entry->d_name[0] != '.'; /* as in a shell's `*` */
}

static crnn_status add_directory(crnn_inputs *inputs, const char *path, bool held_out, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    struct dirent **entries = NULL;
    crnn_status status = CRNN_OK;
    int count = scandir(path, &entries, shown_only, NULL);
    if (count < 0)
        return crnn_fail(err, errno == ENOMEM ? CRNN_ERR_MEMORY : CRNN_ERR_IO, "cannot list %s: %s",
                         crnn_shown(shown, path), strerror(errno));
    char **names = crnn_alloc((size_t)count, sizeof *names, "the names in a directory", err);
    if (!names)
        status = CRNN_ERR_MEMORY;
    const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
    for (int i = 0; names && i < count; i++)
        names[i] = entries[i]->d_name;
    if (names)
        qsort(names, (size_t)count, sizeof *names, by_bytes);
    for (int i = 0; i < count && status == CRNN_OK; i++)
        status = add_found(inputs, crnn_format("%s%s%s", path, slash, names[i]), held_out, err);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    free(names);
    return status;
}

static crnn_status add_glob(crnn_inputs *inputs, const char *pattern, bool held_out, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    glob_t found = {0};
    crnn_status status = CRNN_OK;
    int result = glob(pattern, GLOB_NOSORT, NULL, &found); /* its own order would be the locale's */
    if (result == GLOB_NOSPACE)
        status = crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the list of files");
    else if (result != 0 || found.gl_pathc == 0)
        status = crnn_fail(err, CRNN_ERR_IO, "no file matches %s", crnn_shown(shown, pattern));
    else
        qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_bytes);
    for (size_t i = 0; status == CRNN_OK && i < found.gl_pathc; i++)
        status = add_found(inputs, strdup(found.gl_pathv[i]), held_out, err);
    globfree(&found);
    return status;
}

static crnn_status add_path(crnn_inputs *inputs, const char *path, bool held_out, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    struct stat info;
    const int before = inputs->count;
    crnn_status status;
    if (stat(path, &info) == 0) {
        if (!S_ISDIR(info.st_mode))
            return add(inputs, strdup(path), &info, true, held_out, err);
        status = add_directory(inputs, path, held_out, err);
    } else if (strpbrk(path, "*?[")) {
        status = add_glob(inputs, path, held_out, err);
    } else {
        return crnn_fail(err, CRNN_ERR_IO, "cannot open %s: %s", crnn_shown(shown, path), strerror(errno));
    }
    if (status == CRNN_OK && inputs->count == before)
        status = crnn_fail(err, CRNN_ERR_IO, "there are no regular files in %s", crnn_shown(shown, path));
    return status;
}

/* Same files beside each other; the one that counts first: held out before trained on, named before found, in order. */
static int by_identity(const void *a, const void *b)
{
    const crnn_input *x = *(crnn_input *const *)a, *y = *(crnn_input *const *)b;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    if (x->inode != y->inode)
        return x->inode < y->inode ? -1 : 1;
    if (x->held_out != y->held_out)
        return x->held_out ? -1 : 1;
    if (x->named != y->named)
        return x->named ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static crnn_status skip_doubles(crnn_inputs *inputs, const crnn_text_options *options, crnn_error *err)
{
    crnn_skipped doubled = {0}, held_out = {0};
    crnn_input **sorted = crnn_alloc((size_t)inputs->count, sizeof(crnn_input *), "the list of files", err);
    if (!sorted)
        return CRNN_ERR_MEMORY;
    for (int i = 0; i < inputs->count; i++)
        sorted[i] = &inputs->items[i];
    qsort(sorted, (size_t)inputs->count, sizeof(crnn_input *), by_identity);
    for (int i = 1, first = 0; i < inputs->count; i++) {
        if (sorted[i]->device != sorted[first]->device || sorted[i]->inode != sorted[first]->inode)
            first = i;
        else
            sorted[i]->skip = !sorted[i]->named;
        if (sorted[i]->skip && sorted[first]->held_out && !sorted[i]->held_out)
            crnn_skipped_add(&held_out, sorted[i]->path);
        else if (sorted[i]->skip)
            crnn_skipped_add(&doubled, sorted[i]->path);
    }
    free(sorted);
    crnn_skipped_tell(&doubled, "", " with more than one name", options);
    crnn_skipped_tell(&held_out, "held-out ", "", options);
    return CRNN_OK;
}

crnn_status crnn_inputs_find(crnn_inputs *inputs, const char *const *paths, int count, const char *const *val_paths,
                             int val_count, const crnn_text_options *options, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    for (int i = 0; i < count && status == CRNN_OK; i++)
        status = add_path(inputs, paths[i], false, err);
    for (int i = 0; i < val_count && status == CRNN_OK; i++)
        status = add_path(inputs, val_paths[i], true, err);
    return status == CRNN_OK ? skip_doubles(inputs, options, err) : status;
}
