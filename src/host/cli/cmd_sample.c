/* crnn-gpu sample: the prime and the text on standard output, and nothing else there. */
#include "host/cli/cli.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const opt_row rows[] = {
    {"prime", OPT_TEXT, NULL, "TEXT", 0, 0, "text to go on from; default a newline", "Text"},
    {"prime-file", OPT_TEXT, NULL, "FILE", 0, 0, "the same from a file", NULL},
    {"unknown", OPT_CHOICE, "error", "error|skip|fold", 0, 0, "characters of the prime the model lacks", NULL},
    {"length", OPT_INT, "1000", "N", 0, 1e15, "characters to write, beside the prime", NULL},
    {"stop", OPT_TEXT, NULL, "TEXT", 0, 0, "end a text once it has written this", NULL},
    {"count", OPT_INT, "1", "N", 1, 65536, "write N texts at once, printed one after another", NULL},
    {"raw", OPT_FLAG, NULL, "", 0, 0, "control characters as they are, on a terminal too", NULL},
    {"temperature", OPT_REAL, "1", "T", 0, 1000, "below 1 likelier, above 1 wilder; 0 the likeliest", "Drawing"},
    {"top-k", OPT_INT, "0", "K", 0, 65535, "draw among the K likeliest; 0: all", NULL},
    {"top-p", OPT_REAL, "1", "P", 1e-9, 1, "draw among the fewest that reach P together", NULL},
    {"min-p", OPT_REAL, "0", "P", 0, 1, "draw among those P times as likely as the likeliest", NULL},
    {"seed", OPT_INT, "1", "N", 0, 9e18, "the same seed writes the same text", NULL},
    {"best", OPT_FLAG, NULL, "", 0, 0, "the run's best checkpoint on held-out text, not its newest", "Model"},
    CLI_DEVICE_ROWS,
};

typedef struct {
    opt_set set;
    crnn_checkpoint *ckpt;
    crnn_vocab *vocab;
    crnn_sampler *sampler;
    uint32_t *prime; /* code points */
    uint16_t *ids;
    size_t prime_count;
    uint32_t *stop;
    size_t stop_count;
    bool raw;
} job;

/* --- the prime --------------------------------------------------------------------------------------------------------------- */

/* Code points of UTF-8 text; -1, or an exit status. */
static int decode(const char *what, const char *text, size_t bytes, uint32_t **codes, size_t *count)
{
    *codes = malloc((bytes + 1) * sizeof **codes);
    *count = 0;
    for (size_t at = 0; *codes && at < bytes;) {
        int used = crnn_utf8_decode(text + at, bytes - at, &(*codes)[*count]);
        if (!used) {
            fprintf(stderr, "crnn-gpu sample: %s is not valid UTF-8 at byte %zu\n", what, at);
            return EXIT_DATA;
        }
        at += (size_t)used;
        (*count)++;
    }
    return *codes ? -1 : cli_no_memory("sample");
}

/* Letters that differ from code in accent or case alone, as the vocabulary has them; CRNN_NO_ID where it has none. */
static uint16_t fold(const crnn_vocab *vocab, uint32_t code)
{
    utf8proc_int32_t parts[8];
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)code, parts, 8, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, NULL);
    const uint32_t bare = n > 0 ? (uint32_t)parts[0] : code;
    const uint32_t tries[] = {
        bare, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code), (uint32_t)utf8proc_toupper((utf8proc_int32_t)code),
        (uint32_t)utf8proc_tolower((utf8proc_int32_t)bare), (uint32_t)utf8proc_toupper((utf8proc_int32_t)bare)};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (crnn_vocab_id(vocab, tries[i]) != CRNN_NO_ID)
            return crnn_vocab_id(vocab, tries[i]);
    return CRNN_NO_ID;
}

/* The line of the prime with a caret under the character, and what the model knows instead. */
static void show_unknown(const job *j, size_t at)
{
    size_t begin = at, end = at;
    while (begin > 0 && j->prime[begin - 1] != '\n' && at - begin < 60)
        begin--;
    while (end < j->prime_count && j->prime[end] != '\n' && end - at < 20)
        end++;
    fprintf(stderr, "crnn-gpu sample: the model does not know character %zu of the prime, U+%04X:\n  ", at + 1,
            (unsigned)j->prime[at]);
    int column = 0;
    for (size_t i = begin; i < end; i++) {
        char bytes[4];
        uint32_t code = j->prime[i] < 32 ? ' ' : j->prime[i];
        fwrite(bytes, 1, (size_t)crnn_utf8_encode(bytes, code), stderr);
        if (i < at) {
            int width = utf8proc_charwidth((utf8proc_int32_t)code);
            column += width > 0 ? width : 0;
        }
    }
    fprintf(stderr, "\n  %*s^\n", column, "");
    uint16_t near = fold(j->vocab, j->prime[at]);
    if (near != CRNN_NO_ID) {
        char shown[64];
        shown[crnn_repr(shown, sizeof shown, crnn_vocab_codes(j->vocab) + near, 1)] = 0;
        fprintf(stderr, "It knows %s. ", shown);
    }
    fprintf(stderr, "--unknown=fold takes the nearest letter, --unknown=skip leaves such characters out.\n");
}

static int encode_prime(job *j)
{
    const char *unknown = opt_text(&j->set, "unknown");
    size_t kept = 0;
    j->ids = malloc((j->prime_count + 1) * sizeof *j->ids);
    if (!j->ids)
        return cli_no_memory("sample");
    for (size_t i = 0; i < j->prime_count; i++) {
        uint16_t id = crnn_vocab_id(j->vocab, j->prime[i]);
        if (id == CRNN_NO_ID && strcmp(unknown, "fold") == 0)
            id = fold(j->vocab, j->prime[i]);
        if (id == CRNN_NO_ID && strcmp(unknown, "error") == 0) {
            show_unknown(j, i);
            return EXIT_DATA;
        }
        if (id != CRNN_NO_ID) {
            j->prime[kept] = crnn_vocab_codes(j->vocab)[id];
            j->ids[kept++] = id;
        }
    }
    if (kept < j->prime_count)
        fprintf(stderr, "note: characters of the prime that the model does not know were left out: %zu\n",
                j->prime_count - kept);
    j->prime_count = kept;
    return -1;
}

/* All of a file, pipe or terminal, malloc'd; NULL with errno. */
static char *read_whole(const char *path, size_t *size)
{
    enum { STEP = 4096, MOST = 1 << 26 };
    FILE *file = fopen(path, "re");
    char *text = NULL;
    *size = 0;
    if (!file)
        return NULL;
    for (size_t room = 0; !feof(file) && !ferror(file) && *size <= MOST;) {
        if (*size + STEP > room) {
            char *more = realloc(text, room = room ? room * 2 : 2 * STEP);
            if (!more)
                break;
            text = more;
        }
        *size += fread(text + *size, 1, STEP, file);
    }
    if (*size > MOST)
        errno = EFBIG;
    if (ferror(file) || !feof(file) || *size > MOST) {
        free(text);
        text = NULL;
    }
    int why = errno;
    fclose(file);
    errno = why;
    return text;
}

static int take_prime(job *j)
{
    const char *text = opt_text(&j->set, "prime"), *path = opt_text(&j->set, "prime-file");
    char *content = NULL;
    size_t size = text ? strlen(text) : 0;
    if (text && path) {
        fprintf(stderr, "crnn-gpu sample: --prime and --prime-file exclude each other\n");
        return EXIT_USAGE;
    }
    if (path && !(content = read_whole(path, &size))) {
        char shown[CLI_PATH];
        int why = errno;
        fprintf(stderr, "crnn-gpu sample: cannot read the prime from %s: %s\n", cli_path(shown, path), strerror(why));
        return EXIT_DATA;
    }
    int status = decode("the prime", content ? content : text ? text : "", size, &j->prime, &j->prime_count);
    free(content);
    if (status < 0)
        status = encode_prime(j);
    if (status < 0 && j->prime_count == 0) { /* nothing given, or nothing left: begin as after a line's end */
        uint16_t newline = crnn_vocab_id(j->vocab, '\n');
        j->ids[0] = newline == CRNN_NO_ID ? 0 : newline;
        j->prime[0] = crnn_vocab_codes(j->vocab)[j->ids[0]];
        j->prime_count = 1;
    }
    return status;
}

/* --- writing ----------------------------------------------------------------------------------------------------------------- */

static bool ends_with_stop(const job *j, const uint32_t *text, size_t length)
{
    return j->stop_count && length >= j->stop_count && text[length - 1] == j->stop[j->stop_count - 1] &&
           memcmp(text + length - j->stop_count, j->stop, j->stop_count * sizeof *text) == 0;
}

/* Characters of each text that are drawn in one go: one at first, so that the text begins at once, then twice as many each time, as what is
 * done once for each group is nothing to a large one; but no more than can be waited for. What is written does not depend on it. */
enum { GROUP_MOST = 4096, GROUPS_ALL = 1 << 20 /* of all texts together */ };
typedef struct {
    int64_t size, most;
    double took;   /* seconds */
    uint16_t *ids; /* [most,count] */
} group;

static bool group_new(group *g, int32_t count)
{
    *g = (group){.most = count > GROUPS_ALL / GROUP_MOST ? GROUPS_ALL / count : GROUP_MOST};
    g->ids = malloc((size_t)g->most * (size_t)count * sizeof *g->ids);
    return g->ids != NULL;
}

/* Draws the next group, g->size characters of each text and at most `left`; an exit status. */
static int draw_group(job *j, group *g, int64_t left)
{
    const double soon = 0.025, late = 0.1;
    crnn_error err = {0};
    if (g->size == 0)
        g->size = 1;
    else if (g->took < soon)
        g->size *= 2;
    else if (g->took > late)
        g->size = (g->size + 1) / 2;
    g->size = g->size < g->most ? g->size : g->most;
    g->size = g->size < left ? g->size : left;
    double begun = cli_seconds();
    if (crnn_sampler_write(j->sampler, g->ids, g->size, &err) != CRNN_OK)
        return cli_fail("sample", &err);
    g->took = cli_seconds() - begun;
    return EXIT_DONE;
}

/* Text k of the group goes behind what there is of it, up to the stop text; whether it ended so. */
static bool take_text(const job *j, const group *g, uint32_t *text, size_t *length, int32_t k, int32_t count)
{
    const uint32_t *codes = crnn_vocab_codes(j->vocab);
    for (int64_t i = 0; i < g->size; i++) {
        text[(*length)++] = codes[g->ids[i * count + k]];
        if (j->stop_count && ends_with_stop(j, text, *length))
            return true;
    }
    return false;
}

/* One text, as it is drawn. */
static int write_one(job *j, int64_t length)
{
    group g;
    uint32_t *text = malloc(((size_t)length + 1) * sizeof *text);
    int status = group_new(&g, 1) && text ? EXIT_DONE : cli_no_memory("sample");
    size_t done = 0;
    if (status == EXIT_DONE)
        cli_put_text(stdout, j->prime, j->prime_count, j->raw);
    fflush(stdout);
    for (bool ended = false; status == EXIT_DONE && !ended && done < (size_t)length && !ferror(stdout);) {
        size_t first = done;
        status = draw_group(j, &g, length - (int64_t)done);
        if (status == EXIT_DONE)
            ended = take_text(j, &g, text, &done, 0, 1);
        cli_put_text(stdout, text + first, done - first, j->raw);
        fflush(stdout);
    }
    free(g.ids);
    free(text);
    return status;
}

/* Several at once: drawn together, printed one after another with a line between them. */
static int write_many(job *j, int64_t length, int32_t count)
{
    group g;
    const size_t each = (size_t)(length + 1) * sizeof(uint32_t);
    uint32_t *texts = (size_t)count <= PTRDIFF_MAX / each ? calloc((size_t)count, each) : NULL;
    size_t *lengths = calloc((size_t)count, sizeof *lengths);
    bool *ended = calloc((size_t)count, sizeof *ended);
    int status = group_new(&g, count) && texts && lengths && ended ? EXIT_DONE : cli_no_memory("sample");
    int32_t open = count;
    for (int64_t done = 0; status == EXIT_DONE && done < length && open > 0; done += g.size) {
        status = draw_group(j, &g, length - done);
        for (int32_t k = 0; status == EXIT_DONE && k < count; k++)
            if (!ended[k]) {
                ended[k] = take_text(j, &g, texts + k * (length + 1), &lengths[k], k, count);
                open -= ended[k];
            }
    }
    for (int32_t k = 0; status == EXIT_DONE && k < count; k++) {
        if (k)
            fputs("\n----------\n", stdout);
        cli_put_text(stdout, j->prime, j->prime_count, j->raw);
        cli_put_text(stdout, texts + (int64_t)k * (length + 1), lengths[k], j->raw);
    }
    free(g.ids);
    free(texts);
    free(lengths);
    free(ended);
    return status;
}

static int sample(job *j)
{
    crnn_error err = {0};
    crnn_device_config device;
    crnn_sample_options options = crnn_sample_options_default();
    int32_t count = (int32_t)opt_int(&j->set, "count");
    const char *stop = opt_text(&j->set, "stop");
    options.temperature = opt_real(&j->set, "temperature");
    options.top_k = (int32_t)opt_int(&j->set, "top-k");
    options.top_p = opt_real(&j->set, "top-p");
    options.min_p = opt_real(&j->set, "min-p");
    options.seed = (uint64_t)opt_int(&j->set, "seed");
    j->raw = opt_flag(&j->set, "raw");
    int status = cli_device(&j->set, &device);
    if (status >= 0)
        return status;
    j->ckpt = crnn_checkpoint_find(j->set.files[0], opt_flag(&j->set, "best"), NULL, cli_note, NULL, &err);
    if (!j->ckpt) {
        cli_fail("sample", &err);
        return EXIT_DATA;
    }
    j->vocab = crnn_vocab_new(j->ckpt->vocab, j->ckpt->sizes.V, &err);
    if (!j->vocab)
        return cli_fail("sample", &err);
    status = take_prime(j);
    if (status < 0 && stop)
        status = decode("the stop text", stop, strlen(stop), &j->stop, &j->stop_count);
    if (status >= 0)
        return status;
    j->sampler = crnn_sampler_new(&j->ckpt->sizes, j->ckpt->weights, count, &options, &device, &err);
    if (!j->sampler || crnn_sampler_prime(j->sampler, j->ids, (int64_t)j->prime_count, &err) != CRNN_OK)
        return cli_fail("sample", &err);
    int64_t length = opt_int(&j->set, "length");
    return count == 1 ? write_one(j, length) : write_many(j, length, count);
}

int cmd_sample(int argc, char **argv)
{
    job j = {.set = {.command = "sample",
                     .purpose = "Writes text with a trained model: the prime, then what the model goes on with.",
                     .usage = "sample [OPTION]... RUN|CHECKPOINT",
                     .examples = "  crnn-gpu sample runs/book-1 --prime 'El león ' --temperature 0.7\n"
                                 "  crnn-gpu sample runs/book-1 --count 5 --length 200 --top-p 0.9\n",
                     .wants = "one run or checkpoint",
                     .least = 1,
                     .most = 1,
                     .rows = rows,
                     .row_count = sizeof rows / sizeof *rows}};
    signal(SIGPIPE, SIG_IGN); /* a reader that has enough ends the text, not the program with a signal */
    int status = opt_parse(&j.set, argc, argv);
    if (status < 0)
        status = sample(&j);
    crnn_sampler_free(j.sampler);
    crnn_vocab_free(j.vocab);
    crnn_checkpoint_free(j.ckpt);
    free(j.prime);
    free(j.ids);
    free(j.stop);
    opt_free(&j.set);
    return status;
}
