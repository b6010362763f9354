/* setup.c - the options of a run, from the command line or from what a run stored, and the texts and the device they name. */
#include "host/cli/setup.h"
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const opt_row cli_setup_rows[] = {
    {"val", OPT_LIST, NULL, "FILE", 0, 0, "a text held out of training; may be given again", "Text"},
    {"val-split", OPT_REAL, "0.05", "F", 0, 0.9, "hold out the last fraction of each file", NULL},
    CLI_TEXT_ROWS,
    {"repeat", OPT_INT, "1", "N", 1, 1000000, "take the whole text N times", NULL},
    {"batching", OPT_CHOICE, "streams", "streams|windows", 0, 0, "how the text becomes batches", "Batches"},
    {"batch", OPT_INT, "64", "N", 1, 1 << 24, "rows of a batch", NULL},
    {"length", OPT_INT, "100", "N", 1, 1 << 24, "characters of a row in a step", NULL},
    {"shuffle-buffer", OPT_INT, "10000", "N", 1, 1e9, "sequences shuffled at a time; windows only", NULL},
    {"carry-epochs", OPT_FLAG, NULL, "", 0, 0, "keep the hidden state over the end of an epoch", NULL},
    {"embedding", OPT_INT, "256", "N", 1, 1 << 24, "numbers a character is described by", "Model"},
    {"units", OPT_INT, "1024", "N", 1, 1 << 24, "units of each recurrent layer", NULL},
    {"layers", OPT_INT, "1", "N", 1, 64, "recurrent layers", NULL},
    {"dropout", OPT_REAL, "0", "P", 0, 0.99, "share of units dropped between layers", NULL},
    {"init", OPT_TEXT, NULL, "FILE", 0, 0, "begin with the weights of a safetensors file", NULL},
    {"epochs", OPT_INT, "10", "N", 1, 1e9, "times through the text", "Training"},
    {"max-steps", OPT_INT, "0", "N", 0, 1e15, "stop after N steps; 0: no limit", NULL},
    {"lr", OPT_REAL, "1e-3", "RATE", 0, 1000, "learning rate of Adam", NULL},
    {"lr-schedule", OPT_CHOICE, "constant", "constant|cosine|linear", 0, 0, "how the rate falls over the run", NULL},
    {"warmup", OPT_INT, "0", "N", 0, 1e12, "steps over which the rate rises from 0", NULL},
    {"clip", OPT_REAL, "0", "NORM", 0, 1e9, "limit the gradient's norm; 0: off", NULL},
    {"weight-decay", OPT_REAL, "0", "RATE", 0, 1000, "pull weights to 0; 0: off", NULL},
    {"stop-if-worse", OPT_FLAG, NULL, "", 0, 0, "end with status 5 after an epoch far worse than those before", NULL},
    {"seed", OPT_INT, "1", "N", 0, 9e18, "the same seed trains to the same bits", NULL},
    {"preset", OPT_CHOICE, NULL, "notebook|small", 0, 0,
     "set every option for a purpose: as the notebook, or for a CPU", NULL},
    {"dry-run", OPT_FLAG, NULL, "", 0, 0, "show the model, a batch, the untrained loss and text; do not train", NULL},
    {"out", OPT_TEXT, NULL, "DIR", 0, 0, "directory of the run; default runs/NAME-NUMBER", "Run"},
    {"resume", OPT_TEXT, NULL, "RUN", 0, 0, "go on with a run, to the same bits", NULL},
    {"checkpoint-every", OPT_INT, "1", "N", 0, 1e9, "save every N epochs; 0: at the end only", NULL},
    {"checkpoint-steps", OPT_INT, "0", "N", 0, 1e15, "save every N steps as well; 0: off", NULL},
    {"keep", OPT_TEXT, "3", "N|all", 0, 0, "checkpoints that stay, beside the best", NULL},
    {"log-every", OPT_INT, "1", "N", 1, 1e12, "steps between lines of history.jsonl", NULL},
    {"sample-every", OPT_INT, "0", "N", 0, 1e9, "show a short text every N epochs; 0: off", NULL},
    {"json", OPT_FLAG, NULL, "", 0, 0, "at the end one JSON object on standard output", NULL},
    CLI_DEVICE_ROWS,
};
const int cli_setup_row_count = sizeof cli_setup_rows / sizeof *cli_setup_rows;

static const char *const may_change[] = {"epochs",           "max-steps",        "device", "threads",
                                         "checkpoint-every", "checkpoint-steps", "keep",   "log-every",
                                         "sample-every",     "resume",           "json",   "rnn-algo"};

typedef struct {
    const char *name, *value;
} setting;
static const setting notebook[] = {{"batching", "windows"},
                                   {"shuffle-buffer", "10000"},
                                   {"batch", "64"},
                                   {"length", "100"},
                                   {"embedding", "256"},
                                   {"units", "1024"},
                                   {"layers", "1"},
                                   {"dropout", "0"},
                                   {"epochs", "10"},
                                   {"lr", "1e-3"},
                                   {"lr-schedule", "constant"},
                                   {"warmup", "0"},
                                   {"clip", "0"},
                                   {"weight-decay", "0"},
                                   {"val-split", "0"},
                                   {"checkpoint-every", "1"},
                                   {"keep", "all"}};
static const setting small[] = {{"batch", "32"},           {"length", "64"}, {"embedding", "64"},
                                {"units", "256"},          {"epochs", "6"},  {"lr", "4e-3"},
                                {"lr-schedule", "cosine"}, {"warmup", "50"}, {"clip", "5"}};

/* --- options -------------------------------------------------------------------------------------------------------------- */

static void apply(opt_set *set, const setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        opt_default(set, settings[i].name, settings[i].value);
}

static int check_keep(cli_setup *s)
{
    const char *text = opt_text(&s->set, "keep");
    char *end, word[CLI_WORD];
    long long keep = strtoll(text, &end, 10);
    s->keep = strcmp(text, "all") == 0 ? 0 : keep;
    if (s->keep == 0 ? strcmp(text, "all") == 0 : *end == 0 && keep >= 1)
        return -1;
    fprintf(stderr, "crnn-gpu train: --keep takes a number of at least 1 or 'all', not '%s'\n", cli_word(word, text));
    return EXIT_USAGE;
}

/* Keeps text until the command ends. Returns it, or instead where there is none. */
static const char *keep_text(cli_setup *s, char *text, const char *instead)
{
    char **more = text ? realloc(s->texts, ((size_t)s->text_count + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return instead;
    }
    s->texts = more;
    return s->texts[s->text_count++] = text;
}

/* A path that still means the same from another directory. */
static const char *absolute(cli_setup *s, const char *path)
{
    char here[PATH_MAX], *found = realpath(path, NULL), *joined = NULL;
    if (!found && path[0] != '/' && getcwd(here, sizeof here)) { /* a glob, or nothing at all */
        size_t size = strlen(here) + strlen(path) + 2;
        joined = malloc(size);
        if (joined)
            snprintf(joined, size, "%s/%s", here, path);
    }
    return keep_text(s, found ? found : joined, path);
}

static int make_options_json(cli_setup *s)
{
    static const char *const not_kept[] = {"resume", "out", "dry-run", "json"};
    json_t *object = opt_to_json(&s->set, not_kept, sizeof not_kept / sizeof *not_kept), *files = json_array();
    bool fine = object != NULL;
    for (int i = 0; i < s->set.file_count && fine; i++)
        fine = json_array_append_new(files, json_string(s->set.files[i])) == 0;
    if (json_object_set_new(object, "files", files) == 0 && fine)
        s->options_json = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (s->options_json)
        return -1;
    fprintf(stderr, "crnn-gpu train: the path of a text is not valid UTF-8 and cannot be recorded; rename it\n");
    return EXIT_DATA;
}

static crnn_train_options train_options(const cli_setup *s)
{
    const opt_set *set = &s->set;
    const char *schedule = opt_text(set, "lr-schedule");
    return (crnn_train_options){
        .batching = strcmp(opt_text(set, "batching"), "windows") == 0 ? CRNN_WINDOWS : CRNN_STREAMS,
        .B = (int32_t)opt_int(set, "batch"),
        .T = (int32_t)opt_int(set, "length"),
        .shuffle_buffer = opt_int(set, "shuffle-buffer"),
        .carry_epochs = opt_flag(set, "carry-epochs"),
        .E = (int32_t)opt_int(set, "embedding"),
        .H = (int32_t)opt_int(set, "units"),
        .L = (int32_t)opt_int(set, "layers"),
        .dropout = opt_real(set, "dropout"),
        .init = opt_text(set, "init"),
        .epochs = opt_int(set, "epochs"),
        .max_steps = opt_int(set, "max-steps"),
        .lr = opt_real(set, "lr"),
        .lr_schedule = schedule[0] == 'l'                ? CRNN_LR_LINEAR
                       : strcmp(schedule, "cosine") == 0 ? CRNN_LR_COSINE
                                                         : CRNN_LR_CONSTANT,
        .warmup = opt_int(set, "warmup"),
        .clip = opt_real(set, "clip"),
        .weight_decay = opt_real(set, "weight-decay"),
        .stop_if_worse = opt_flag(set, "stop-if-worse"),
        .seed = (uint64_t)opt_int(set, "seed"),
        .checkpoint_every = opt_int(set, "checkpoint-every"),
        .checkpoint_steps = opt_int(set, "checkpoint-steps"),
        .keep = s->keep,
        .log_every = opt_int(set, "log-every"),
        .device = s->device,
        .options_json = s->options_json,
    };
}

static int read_corpus(cli_setup *s)
{
    crnn_error err = {0};
    crnn_text_options options = cli_text_options(&s->set);
    options.repeat = (int32_t)opt_int(&s->set, "repeat");
    options.val_split = opt_get(&s->set, "val-split")->real;
    const opt_value *val = opt_get(&s->set, "val");
    s->corpus = crnn_corpus_read(s->set.files, s->set.file_count, val->list, val->count, &options, &err);
    if (!s->corpus)
        return err.status == CRNN_ERR_IO ? (cli_fail(s->set.command, &err), EXIT_DATA) : cli_fail(s->set.command, &err);
    if (crnn_corpus_unknown(s->corpus))
        fprintf(stderr, "note: %lld characters of the held-out text are not in the vocabulary and do not count\n",
                (long long)crnn_corpus_unknown(s->corpus));
    return -1;
}

/* runs/<name of the first text>-<first free number> */
static void choose_out(cli_setup *s)
{
    const char *given = opt_text(&s->set, "out");
    if (given) {
        snprintf(s->out, sizeof s->out, "%s", given);
        return;
    }
    char path[PATH_MAX], *name;
    snprintf(path, sizeof path, "%s", s->set.files[0]);
    name = basename(path);
    if (strpbrk(name, "*?[")) { /* a glob is named by its folder */
        snprintf(path, sizeof path, "%s", s->set.files[0]);
        name = basename(dirname(path));
    }
    char *dot = strrchr(name, '.');
    if (dot && dot != name)
        *dot = 0;
    struct stat info;
    for (int number = 1;; number++) {
        snprintf(s->out, sizeof s->out, "runs/%.200s-%d", name, number);
        if (stat(s->out, &info) != 0)
            return;
    }
}

/* Takes the options and the texts of a run, as it stored them, where none were given. */
static int take_options(cli_setup *s, const char *options, const char *run)
{
    s->stored = json_loads(options, 0, NULL);
    const json_t *files = json_object_get(s->stored, "files");
    if (!s->stored || !opt_from_json(&s->set, s->stored) || !json_is_array(files)) {
        fprintf(stderr, "crnn-gpu %s: %s: its checkpoint does not hold the options of a run of this program\n",
                s->set.command, run);
        return EXIT_DATA;
    }
    free(s->set.files);
    s->set.files = calloc(json_array_size(files) + 1, sizeof *s->set.files);
    if (!s->set.files)
        return cli_no_memory(s->set.command);
    for (size_t i = 0; i < json_array_size(files); i++)
        s->set.files[s->set.file_count++] = json_string_value(json_array_get(files, i));
    return -1;
}

/* Takes the options of the run from its newest checkpoint; refuses those that would change it. */
static int take_over(cli_setup *s)
{
    const char *run = opt_text(&s->set, "resume");
    crnn_error err = {0};
    for (int i = 0; i < s->set.row_count; i++) {
        bool allowed = !s->set.values[i].given;
        for (size_t k = 0; k < sizeof may_change / sizeof *may_change; k++)
            allowed = allowed || strcmp(cli_setup_rows[i].name, may_change[k]) == 0;
        if (allowed)
            continue;
        fprintf(stderr, "crnn-gpu train: --%s cannot change while a run goes on; leave it out, or begin a new run\n",
                cli_setup_rows[i].name);
        return EXIT_USAGE;
    }
    if (s->set.file_count) {
        char word[CLI_WORD];
        fprintf(stderr, "crnn-gpu train: a run goes on with its own text; leave out '%s'\n",
                cli_word(word, s->set.files[0]));
        return EXIT_USAGE;
    }
    s->from = crnn_checkpoint_find(run, false, NULL, cli_note, NULL, &err);
    if (!s->from)
        return cli_fail("train", &err), EXIT_DATA;
    int status = take_options(s, s->from->options, run);
    if (status >= 0)
        return status;
    snprintf(s->out, sizeof s->out, "%s", run);
    return -1;
}

/* --- a whole setup -------------------------------------------------------------------------------------------------- */

static int check_same_text(const cli_setup *s, const crnn_checkpoint *from)
{
    if (memcmp(from->corpus_sha256, crnn_corpus_sha256(s->corpus), 32) == 0)
        return -1;
    fprintf(stderr,
            "crnn-gpu %s: the text has changed since the run began (%lld characters now, %lld then); put it back, "
            "or begin a new run with --init\n",
            s->set.command, (long long)crnn_corpus_train(s->corpus).count, (long long)from->corpus_characters);
    return EXIT_DATA;
}

/* The ways to compute a recurrent layer are a GPU's: where a run goes on with the CPU, it goes on with the CPU's own. */
static void leave_way_of_gpu(cli_setup *s)
{
    opt_value *algo = opt_get(&s->set, "rnn-algo");
    if (!s->stored || algo->given || s->device.kind != CRNN_DEVICE_CPU || strcmp(algo->text, "auto") == 0)
        return;
    fprintf(stderr, "note: the run was computed on a GPU (--rnn-algo %s); on the CPU it goes on to other bits\n",
            algo->text);
    s->device.rnn_algo = algo->text = "auto";
}

/* What both ways share, once set holds every option. */
static int read_all(cli_setup *s, const crnn_checkpoint *from)
{
    int status = check_keep(s);
    if (status < 0)
        status = cli_device(&s->set, &s->device);
    if (status < 0)
        leave_way_of_gpu(s);
    if (status < 0)
        status = make_options_json(s);
    if (status < 0)
        status = read_corpus(s);
    if (status < 0 && from)
        status = check_same_text(s, from);
    if (status < 0)
        s->options = train_options(s);
    return status;
}

int cli_setup_given(cli_setup *s)
{
    int status = opt_text(&s->set, "resume") ? take_over(s) : -1;
    if (status >= 0)
        return status;
    if (!s->set.file_count) {
        fprintf(stderr,
                "crnn-gpu train: no text to train on; name files, folders or quoted globs (crnn-gpu train --help)\n");
        return EXIT_USAGE;
    }
    const char *preset = opt_text(&s->set, "preset");
    if (!s->from && preset && strcmp(preset, "notebook") == 0)
        apply(&s->set, notebook, sizeof notebook / sizeof *notebook);
    else if (!s->from && preset)
        apply(&s->set, small, sizeof small / sizeof *small);
    if (!s->from)
        choose_out(s);
    for (int i = 0; i < s->set.file_count; i++)
        s->set.files[i] = absolute(s, s->set.files[i]);
    opt_value *val = opt_get(&s->set, "val");
    for (int i = 0; i < val->count; i++)
        val->list[i] = absolute(s, val->list[i]);
    return read_all(s, s->from);
}

int cli_setup_stored(cli_setup *s, const char *command, const crnn_replay *replay)
{
    *s = (cli_setup){.set = {.command = command, .rows = cli_setup_rows, .row_count = cli_setup_row_count}};
    int status = opt_parse(&s->set, 0, NULL);
    if (status < 0)
        status = take_options(s, replay->options, replay->run);
    if (status >= 0)
        return status;
    if (replay->kind != CRNN_DEVICE_AUTO) {
        opt_get(&s->set, "device")->text = replay->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu";
        opt_get(&s->set, "threads")->integer = replay->threads;
    }
    return read_all(s, replay->from);
}

void cli_setup_free(cli_setup *s)
{
    crnn_checkpoint_free(s->from);
    crnn_corpus_free(s->corpus);
    json_decref(s->stored);
    free(s->options_json);
    for (int i = 0; i < s->text_count; i++)
        free(s->texts[i]);
    free(s->texts);
    opt_free(&s->set);
}
