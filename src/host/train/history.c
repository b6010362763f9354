#include "host/train/history.h"
#include "host/base/escape.h"
#include "host/base/files.h"
#include "host/base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PENDING = 1 << 16, LINE = 1024 };
static const char NAME[] = "history.jsonl";

struct crnn_history {
    int fd;
    char *path;
    int64_t length;        /* bytes of the file that are whole lines */
    size_t used;           /* bytes of pending that hold lines */
    char pending[PENDING]; /* not yet in the file */
};

/* --- numbers -------------------------------------------------------------------------------------------------------- */

/* The decimal point of a program's locale is no JSON. */
static char *with_point(char *text)
{
    char *comma = strchr(text, ',');
    if (comma)
        *comma = '.';
    return text;
}

char *crnn_number(char out[CRNN_NUMBER], double value)
{
    if (!isfinite(value))
        return strcpy(out, "null");
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, CRNN_NUMBER, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    return with_point(out);
}

char *crnn_number_float(char out[CRNN_NUMBER], float value)
{
    if (!isfinite(value))
        return strcpy(out, "null");
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(out, CRNN_NUMBER, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value)
            break;
    }
    return with_point(out);
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

/* Writes what is pending at the end of the whole lines. Returns false, with errno, where the disk refuses. */
static bool flush_lines(crnn_history *history)
{
    for (size_t done = 0; done < history->used;) {
        ssize_t put = pwrite(history->fd, history->pending + done, history->used - done,
                             (off_t)(history->length + (int64_t)done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false; /* all of it again next time, from the same offset */
        done += (size_t)put;
    }
    history->length += (int64_t)history->used;
    history->used = 0;
    return true;
}

static crnn_status add_line(crnn_history *history, crnn_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static crnn_status add_line(crnn_history *history, crnn_error *err, const char *format, ...)
{
    char line[LINE], shown[CRNN_SHOWN];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length < 0 || length >= LINE)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a line of the history has more than %d bytes", LINE);
    if (history->used + (size_t)length > PENDING && !flush_lines(history))
        return crnn_fail(err, CRNN_ERR_IO, "cannot write %s: %s", crnn_shown(shown, history->path), strerror(errno));
    memcpy(history->pending + history->used, line, (size_t)length);
    history->used += (size_t)length;
    flush_lines(history); /* where the disk refuses, the line waits */
    return CRNN_OK;
}

crnn_status crnn_history_step(crnn_history *history, int64_t step, int64_t epoch, double loss, float lr,
                              float grad_norm, crnn_error *err)
{
    char a[CRNN_NUMBER], b[CRNN_NUMBER], c[CRNN_NUMBER];
    return add_line(history, err,
                    "{\"event\":\"step\",\"step\":%lld,\"epoch\":%lld,\"loss\":%s,\"lr\":%s,\"grad_norm\":%s}\n",
                    (long long)step, (long long)epoch, crnn_number(a, loss), crnn_number_float(b, lr),
                    crnn_number_float(c, grad_norm));
}

crnn_status crnn_history_epoch(crnn_history *history, const crnn_epoch_report *r, crnn_error *err)
{
    char n[8][CRNN_NUMBER];
    return add_line(history, err,
                    "{\"event\":\"epoch\",\"epoch\":%lld,\"step\":%lld,\"loss_last\":%s,\"loss_mean\":%s,"
                    "\"accuracy\":%s,\"bpc\":%s,\"val_loss\":%s,\"val_bpc\":%s,\"seconds\":%s,"
                    "\"chars_per_second\":%s}\n",
                    (long long)r->epoch, (long long)r->step, crnn_number(n[0], r->loss_last),
                    crnn_number(n[1], r->loss_mean), crnn_number(n[2], r->accuracy), crnn_number(n[3], r->bpc),
                    crnn_number(n[4], r->val_loss), crnn_number(n[5], r->val_bpc), crnn_number(n[6], r->seconds),
                    crnn_number(n[7], r->chars_per_second));
}

crnn_status crnn_history_skip(crnn_history *history, int64_t step, int64_t epoch, crnn_error *err)
{
    return add_line(history, err, "{\"event\":\"skip\",\"step\":%lld,\"epoch\":%lld}\n", (long long)step,
                    (long long)epoch);
}

crnn_status crnn_history_return(crnn_history *history, int64_t step, int64_t epoch, int64_t to_step, double rate_factor,
                                int64_t returns, crnn_error *err)
{
    char a[CRNN_NUMBER];
    return add_line(history, err,
                    "{\"event\":\"return\",\"step\":%lld,\"epoch\":%lld,\"to_step\":%lld,\"rate_factor\":%s,"
                    "\"returns\":%lld}\n",
                    (long long)step, (long long)epoch, (long long)to_step, crnn_number(a, rate_factor),
                    (long long)returns);
}

bool crnn_history_waiting(const crnn_history *history)
{
    return history->used > 0;
}

crnn_status crnn_history_sync(const crnn_history *history, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    if (fdatasync(history->fd) == 0 || errno == EINVAL || errno == ENOTSUP)
        return CRNN_OK;
    return crnn_fail(err, CRNN_ERR_IO, "cannot make durable %s: %s", crnn_shown(shown, history->path), strerror(errno));
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

static crnn_history *open_history(const char *directory, int flags, crnn_error *err)
{
    struct stat info;
    char shown[CRNN_SHOWN];
    crnn_history *history = crnn_alloc(1, sizeof *history, "the history", err);
    if (!history)
        return NULL;
    history->fd = -1;
    history->path = crnn_format("%s/%s", directory, NAME);
    if (!history->path) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        goto fail;
    }
    history->fd = open(history->path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    if (history->fd < 0 || fstat(history->fd, &info) != 0) {
        crnn_fail(err, CRNN_ERR_IO, "cannot open %s: %s", crnn_shown(shown, history->path), strerror(errno));
        goto fail;
    }
    if (!S_ISREG(info.st_mode)) {
        crnn_fail(err, CRNN_ERR_IO, "%s is not a regular file", crnn_shown(shown, history->path));
        goto fail;
    }
    history->length = (int64_t)info.st_size;
    return history;
fail:
    crnn_history_free(history);
    return NULL;
}

crnn_history *crnn_history_new(const char *directory, crnn_error *err)
{
    return open_history(directory, O_TRUNC, err);
}

static int64_t whole(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    return json_is_integer(number) ? json_integer_value(number) : -1;
}

bool crnn_history_parse(crnn_history_line *line, const char *text, size_t length)
{
    static const char *const events[] = {"step", "epoch", "skip", "return"};
    json_error_t wrong = {.text = ""};
    /* No longer line was ever written. */
    json_t *object = length <= LINE ? json_loadb(text, length, 0, &wrong) : NULL;
    const char *event = json_string_value(json_object_get(object, "event"));
    *line = (crnn_history_line){CRNN_LINE_OTHER,
                                whole(object, "step"),
                                whole(object, "epoch"),
                                whole(object, "to_step"),
                                (double)NAN,
                                !object && json_error_code(&wrong) == json_error_out_of_memory};
    bool known = event && json_is_integer(json_object_get(object, "step"));
    for (int i = 0; known && i < CRNN_LINE_OTHER; i++)
        if (strcmp(event, events[i]) == 0)
            line->event = (crnn_line_event)i;
    const json_t *loss = json_object_get(object, line->event == CRNN_LINE_EPOCH ? "loss_mean" : "loss");
    if (json_is_number(loss))
        line->loss = json_number_value(loss);
    json_decref(object);
    return known;
}

void crnn_recent_add(crnn_recent_losses *recent, double loss)
{
    enum { ROOM = sizeof recent->loss / sizeof *recent->loss };
    if (recent->count == ROOM)
        memmove(recent->loss, recent->loss + 1, (ROOM - 1) * sizeof *recent->loss);
    else
        recent->count++;
    recent->loss[recent->count - 1] = loss;
}

double crnn_recent_best(const crnn_recent_losses *recent)
{
    double best = (double)INFINITY;
    for (int i = 0; i < recent->count; i++)
        best = recent->loss[i] < best ? recent->loss[i] : best;
    return best;
}

/* Does a cut at `step` keep the line? */
static bool stays(const crnn_history_line *line, int64_t step, bool mid_epoch)
{
    return line->step <= step && !(mid_epoch && line->step == step && line->event == CRNN_LINE_EPOCH);
}

/* Moves the lines that stay to the front of text; *kept_size becomes their size. False where memory does not suffice to judge a line. */
static bool cut(size_t *kept_size, char *text, size_t size, int64_t step, bool mid_epoch, crnn_history_past *past)
{
    size_t kept = 0;
    int run = 0;
    int64_t last = -1; /* step that was skipped */
    for (char *line = text, *end; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        size_t length = (size_t)(end - line) + 1;
        crnn_history_line facts;
        bool known = crnn_history_parse(&facts, line, length);
        if (facts.out_of_memory)
            return false;
        if (!known || !stays(&facts, step, mid_epoch))
            continue;
        if (facts.event == CRNN_LINE_SKIP) {
            run = facts.step == last + 1 ? run + 1 : 1;
            last = facts.step;
        } else if (facts.event == CRNN_LINE_EPOCH) {
            crnn_recent_add(&past->recent, facts.loss);
        } else {
            run = 0;
        }
        memmove(text + kept, line, length);
        kept += length;
    }
    past->skips = last == step ? run : 0;
    *kept_size = kept;
    return true;
}

crnn_history *crnn_history_resume(const char *directory, int64_t step, bool mid_epoch, crnn_history_past *past,
                                  crnn_error *err)
{
    crnn_history *history = NULL;
    crnn_history_past own, *facts = past ? past : &own;
    struct stat info;
    char *text = NULL, *path = crnn_format("%s/%s", directory, NAME);
    size_t size = 0;
    *facts = (crnn_history_past){0};
    if (!path) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        return NULL;
    }
    if (stat(path, &info) == 0 || errno != ENOENT) {
        text = crnn_read_file(path, (int64_t)1 << 36, &size, err);
        if (!text)
            goto done;
        size_t kept;
        if (!cut(&kept, text, size, step, mid_epoch, facts)) {
            crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the history");
            goto done;
        }
        if (kept != size && crnn_write_file_durably(directory, NAME, text, kept, err) != CRNN_OK)
            goto done;
    }
    history = open_history(directory, 0, err);
done:
    free(text);
    free(path);
    return history;
}

void crnn_history_free(crnn_history *history)
{
    if (!history)
        return;
    if (history->fd >= 0) {
        flush_lines(history);
        close(history->fd);
    }
    free(history->path);
    free(history);
}
