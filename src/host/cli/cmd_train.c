/* crnn-gpu train: options to a run, and what a person sees of it. */
#include "host/cli/cli.h"
#include "host/cli/progress.h"
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const opt_row rows[] = {
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

static const char *const may_change[] = {"epochs",           "max-steps",        "device", "threads",
                                         "checkpoint-every", "checkpoint-steps", "keep",   "log-every",
                                         "sample-every",     "resume",           "json"};

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

/* Everything a run of this command holds. */
typedef struct {
    opt_set set;
    json_t *stored; /* options of the run that goes on; their strings are borrowed from it */
    char *options_json;
    char **texts; /* paths of its own that set holds */
    int text_count;
    crnn_corpus *corpus;
    crnn_checkpoint *from;
    crnn_trainer *trainer;
    char out[PATH_MAX];
    crnn_device_config device;
    cli_progress progress;
    crnn_epoch_report *reports;
    int report_count;
    int64_t keep;
} job;

/* --- signals ------------------------------------------------------------------------------------------------------------- */

/* No thread that computes may run a signal handler: while oneDNN's sgemm runs, its stack pointer points into the heap, and what the kernel pushes
 * there for a handler destroys its neighbours (uxlfoundation/oneDNN issue 4845; up to 3.11). So all threads block these signals but one, which
 * waits for them. */
static atomic_int stop_signal, save_now;
static atomic_bool running; /* there is something to save */

static void *watch_signals(void *set)
{
    for (int number;;) {
        if (sigwait(set, &number) != 0)
            continue;
        if (number == SIGUSR1)
            save_now = 1;
        else if (stop_signal || !running) /* the second one: at once */
            _exit(128 + number);
        else
            stop_signal = number;
    }
    return NULL;
}

/* Before any thread is made, as threads inherit what is blocked. False, and told, where it cannot be. */
static bool catch_signals(void)
{
    static sigset_t set;
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away must not end a training run */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) == 0 && pthread_create(&thread, NULL, watch_signals, &set) == 0)
        return true;
    fprintf(stderr, "crnn-gpu train: cannot make a thread that watches for signals\n");
    return false;
}

static int ask_stop(void *user)
{
    (void)user;
    if (stop_signal)
        return 1;
    return atomic_exchange(&save_now, 0) ? 2 : 0;
}

/* --- options -------------------------------------------------------------------------------------------------------------- */

static void apply(opt_set *set, const setting *settings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        opt_default(set, settings[i].name, settings[i].value);
}

static int check_keep(job *j)
{
    const char *text = opt_text(&j->set, "keep");
    char *end, word[CLI_WORD];
    long long keep = strtoll(text, &end, 10);
    j->keep = strcmp(text, "all") == 0 ? 0 : keep;
    if (j->keep == 0 ? strcmp(text, "all") == 0 : *end == 0 && keep >= 1)
        return -1;
    fprintf(stderr, "crnn-gpu train: --keep takes a number of at least 1 or 'all', not '%s'\n", cli_word(word, text));
    return EXIT_USAGE;
}

/* Keeps text until the command ends. Returns it, or instead where there is none. */
static const char *keep_text(job *j, char *text, const char *instead)
{
    char **more = text ? realloc(j->texts, ((size_t)j->text_count + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return instead;
    }
    j->texts = more;
    return j->texts[j->text_count++] = text;
}

/* A path that still means the same from another directory. */
static const char *absolute(job *j, const char *path)
{
    char here[PATH_MAX], *found = realpath(path, NULL), *joined = NULL;
    if (!found && path[0] != '/' && getcwd(here, sizeof here)) { /* a glob, or nothing at all */
        size_t size = strlen(here) + strlen(path) + 2;
        joined = malloc(size);
        if (joined)
            snprintf(joined, size, "%s/%s", here, path);
    }
    return keep_text(j, found ? found : joined, path);
}

static int make_options_json(job *j)
{
    static const char *const not_kept[] = {"resume", "out", "dry-run", "json"};
    json_t *object = opt_to_json(&j->set, not_kept, sizeof not_kept / sizeof *not_kept), *files = json_array();
    bool fine = object != NULL;
    for (int i = 0; i < j->set.file_count && fine; i++)
        fine = json_array_append_new(files, json_string(j->set.files[i])) == 0;
    if (json_object_set_new(object, "files", files) == 0 && fine)
        j->options_json = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (j->options_json)
        return -1;
    fprintf(stderr, "crnn-gpu train: the path of a text is not valid UTF-8 and cannot be recorded; rename it\n");
    return EXIT_DATA;
}

static crnn_train_options train_options(const job *j)
{
    const opt_set *s = &j->set;
    const char *schedule = opt_text(s, "lr-schedule");
    return (crnn_train_options){
        .batching = strcmp(opt_text(s, "batching"), "windows") == 0 ? CRNN_WINDOWS : CRNN_STREAMS,
        .B = (int32_t)opt_int(s, "batch"),
        .T = (int32_t)opt_int(s, "length"),
        .shuffle_buffer = opt_int(s, "shuffle-buffer"),
        .carry_epochs = opt_flag(s, "carry-epochs"),
        .E = (int32_t)opt_int(s, "embedding"),
        .H = (int32_t)opt_int(s, "units"),
        .L = (int32_t)opt_int(s, "layers"),
        .dropout = opt_real(s, "dropout"),
        .init = opt_text(s, "init"),
        .epochs = opt_int(s, "epochs"),
        .max_steps = opt_int(s, "max-steps"),
        .lr = opt_real(s, "lr"),
        .lr_schedule = schedule[0] == 'l'                ? CRNN_LR_LINEAR
                       : strcmp(schedule, "cosine") == 0 ? CRNN_LR_COSINE
                                                         : CRNN_LR_CONSTANT,
        .warmup = opt_int(s, "warmup"),
        .clip = opt_real(s, "clip"),
        .weight_decay = opt_real(s, "weight-decay"),
        .stop_if_worse = opt_flag(s, "stop-if-worse"),
        .seed = (uint64_t)opt_int(s, "seed"),
        .checkpoint_every = opt_int(s, "checkpoint-every"),
        .checkpoint_steps = opt_int(s, "checkpoint-steps"),
        .keep = j->keep,
        .log_every = opt_int(s, "log-every"),
        .device = j->device,
        .options_json = j->options_json,
    };
}

/* --- what a person sees ------------------------------------------------------------------------------------------------------ */

static void on_note(void *user, const char *sentence)
{
    job *j = user;
    cli_progress_clear(&j->progress);
    cli_note(NULL, sentence);
}

static void on_progress(void *user, const crnn_progress *at)
{
    job *j = user;
    cli_progress_step(&j->progress, at);
}

static void on_saved(void *user, const char *path, int64_t step)
{
    const job *j = user;
    (void)path;
    cli_progress_saved(&j->progress, step);
}

/* A short text from the weights as they are. */
static void show_text(job *j, crnn_model *model, int64_t length)
{
    const crnn_model_config *config = crnn_model_configuration(model);
    const crnn_vocab *vocab = crnn_corpus_vocab(j->corpus);
    crnn_sample_options options = crnn_sample_options_default();
    crnn_error err = {0};
    float *weights = malloc((size_t)crnn_model_parameters(&config->sizes) * sizeof *weights);
    crnn_sampler *sampler = NULL;
    uint16_t id = crnn_vocab_id(vocab, '\n') == CRNN_NO_ID ? 0 : crnn_vocab_id(vocab, '\n'), ids[50];
    if (weights && crnn_model_get(model, CRNN_WEIGHTS, weights, &err) == CRNN_OK)
        sampler = crnn_sampler_new(&config->sizes, weights, 1, &options, &j->device, &err);
    if (sampler && crnn_sampler_prime(sampler, &id, 1, &err) == CRNN_OK)
        for (int64_t i = 0; i < length && crnn_sampler_write(sampler, ids, 50, &err) == CRNN_OK; i += 50)
            for (int k = 0; k < 50; k++)
                cli_put_text(stderr, crnn_vocab_codes(vocab) + ids[k], 1, false);
    fputc('\n', stderr);
    crnn_sampler_free(sampler);
    free(weights);
}

static void on_epoch(void *user, const crnn_epoch_report *report)
{
    job *j = user;
    cli_progress_epoch(&j->progress, report);
    crnn_epoch_report *more = realloc(j->reports, ((size_t)j->report_count + 1) * sizeof *more);
    if (more) {
        j->reports = more;
        j->reports[j->report_count++] = *report;
    }
    int64_t every = opt_int(&j->set, "sample-every");
    if (every && report->epoch % every == 0) {
        fprintf(stderr, "what it writes after epoch %lld:\n", (long long)report->epoch);
        show_text(j, crnn_trainer_model(j->trainer), 200);
    }
}

static void print_json(const job *j)
{
    json_t *epochs = json_array();
    for (int i = 0; i < j->report_count; i++) {
        const crnn_epoch_report *r = &j->reports[i];
        json_t *val_loss = isnan(r->val_loss) ? json_null() : json_real(r->val_loss);
        json_t *val_bpc = isnan(r->val_loss) ? json_null() : json_real(r->val_bpc);
        json_array_append_new(epochs, json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:o, s:o, s:f, s:f}", "epoch",
                                                (json_int_t)r->epoch, "step", (json_int_t)r->step, "loss_last",
                                                r->loss_last, "loss_mean", r->loss_mean, "accuracy", r->accuracy, "bpc",
                                                r->bpc, "val_loss", val_loss, "val_bpc", val_bpc, "seconds", r->seconds,
                                                "chars_per_second", r->chars_per_second));
    }
    cli_print_json(json_pack("{s:s, s:I, s:o}", "run", j->out, "step", (json_int_t)crnn_trainer_step(j->trainer),
                             "epochs", epochs));
}

static void print_summary(const job *j)
{
    if (opt_flag(&j->set, "json")) {
        print_json(j);
        return;
    }
    if (j->report_count) {
        printf("epoch       step   loss   bits/char  accuracy  held out  bits/char    time    chars/s\n");
        for (int i = 0; i < j->report_count; i++) {
            const crnn_epoch_report *r = &j->reports[i];
            char took[32];
            cli_duration(took, r->seconds);
            printf("%5lld %10lld %7.4f %9.3f %8.1f%%", (long long)r->epoch, (long long)r->step, r->loss_mean, r->bpc,
                   100 * r->accuracy);
            if (isnan(r->val_loss))
                printf("%10s %10s", "-", "-");
            else
                printf("%10.4f %10.3f", r->val_loss, r->val_bpc);
            printf(" %8s %10.0f\n", took, r->chars_per_second);
        }
    }
    char path[CLI_PATH];
    printf("The run is in %s. Write with it:\n", cli_path(path, j->out));
    cli_put_command(stdout, "sample", j->out);
}

/* --- the run ------------------------------------------------------------------------------------------------------------------ */

static int read_corpus(job *j)
{
    crnn_error err = {0};
    crnn_text_options options = cli_text_options(&j->set);
    options.repeat = (int32_t)opt_int(&j->set, "repeat");
    options.val_split = opt_get(&j->set, "val-split")->real;
    const opt_value *val = opt_get(&j->set, "val");
    j->corpus = crnn_corpus_read(j->set.files, j->set.file_count, val->list, val->count, &options, &err);
    if (!j->corpus)
        return err.status == CRNN_ERR_IO ? (cli_fail(j->set.command, &err), EXIT_DATA) : cli_fail(j->set.command, &err);
    if (crnn_corpus_unknown(j->corpus))
        fprintf(stderr, "note: %lld characters of the held-out text are not in the vocabulary and do not count\n",
                (long long)crnn_corpus_unknown(j->corpus));
    return -1;
}

/* runs/<name of the first text>-<first free number> */
static void choose_out(job *j)
{
    const char *given = opt_text(&j->set, "out");
    if (given) {
        snprintf(j->out, sizeof j->out, "%s", given);
        return;
    }
    char path[PATH_MAX], *name;
    snprintf(path, sizeof path, "%s", j->set.files[0]);
    name = basename(path);
    if (strpbrk(name, "*?[")) { /* a glob is named by its folder */
        snprintf(path, sizeof path, "%s", j->set.files[0]);
        name = basename(dirname(path));
    }
    char *dot = strrchr(name, '.');
    if (dot && dot != name)
        *dot = 0;
    struct stat info;
    for (int number = 1;; number++) {
        snprintf(j->out, sizeof j->out, "runs/%.200s-%d", name, number);
        if (stat(j->out, &info) != 0)
            return;
    }
}

/* Takes the options and the texts of a run, as it stored them, where none were given. */
static int take_options(job *j, const char *options, const char *run)
{
    j->stored = json_loads(options, 0, NULL);
    const json_t *files = json_object_get(j->stored, "files");
    if (!j->stored || !opt_from_json(&j->set, j->stored) || !json_is_array(files)) {
        fprintf(stderr, "crnn-gpu %s: %s: its checkpoint does not hold the options of a run of this program\n",
                j->set.command, run);
        return EXIT_DATA;
    }
    free(j->set.files);
    j->set.files = calloc(json_array_size(files) + 1, sizeof *j->set.files);
    if (!j->set.files)
        return cli_no_memory(j->set.command);
    for (size_t i = 0; i < json_array_size(files); i++)
        j->set.files[j->set.file_count++] = json_string_value(json_array_get(files, i));
    return -1;
}

/* Takes the options of the run from its newest checkpoint; refuses those that would change it. */
static int take_over(job *j)
{
    const char *run = opt_text(&j->set, "resume");
    crnn_error err = {0};
    for (int i = 0; i < j->set.row_count; i++) {
        bool allowed = !j->set.values[i].given;
        for (size_t k = 0; k < sizeof may_change / sizeof *may_change; k++)
            allowed = allowed || strcmp(rows[i].name, may_change[k]) == 0;
        if (allowed)
            continue;
        fprintf(stderr, "crnn-gpu train: --%s cannot change while a run goes on; leave it out, or begin a new run\n",
                rows[i].name);
        return EXIT_USAGE;
    }
    if (j->set.file_count) {
        char word[CLI_WORD];
        fprintf(stderr, "crnn-gpu train: a run goes on with its own text; leave out '%s'\n",
                cli_word(word, j->set.files[0]));
        return EXIT_USAGE;
    }
    j->from = crnn_checkpoint_find(run, false, NULL, cli_note, NULL, &err);
    if (!j->from)
        return cli_fail("train", &err), EXIT_DATA;
    int status = take_options(j, j->from->options, run);
    if (status >= 0)
        return status;
    snprintf(j->out, sizeof j->out, "%s", run);
    return -1;
}

static int check_same_text(const job *j, const crnn_checkpoint *from)
{
    if (memcmp(from->corpus_sha256, crnn_corpus_sha256(j->corpus), 32) == 0)
        return -1;
    fprintf(stderr,
            "crnn-gpu %s: the text has changed since the run began (%lld characters now, %lld then); put it back, "
            "or begin a new run with --init\n",
            j->set.command, (long long)crnn_corpus_train(j->corpus).count, (long long)from->corpus_characters);
    return EXIT_DATA;
}

/* Shows what training would begin with. */
static int dry_run(job *j, const crnn_train_options *o)
{
    crnn_error err = {0};
    crnn_model_sizes sizes = {crnn_vocab_size(crnn_corpus_vocab(j->corpus)), o->E, o->H, o->L, o->dropout};
    crnn_ids ids = crnn_corpus_train(j->corpus);
    crnn_batches *batches =
        crnn_batches_new(&(crnn_batches_config){o->batching, ids.count, o->B, o->T, o->shuffle_buffer, o->seed}, &err);
    crnn_model *model =
        batches ? crnn_model_new(&(crnn_model_config){sizes, o->B, o->T, false, o->seed}, &j->device, &err) : NULL;
    uint16_t *x = malloc((size_t)o->B * (size_t)o->T * sizeof *x), *y = malloc((size_t)o->B * (size_t)o->T * sizeof *y);
    crnn_step_result result;
    char summary[16384];
    int status = EXIT_DONE;
    if (!model || !x || !y) {
        status = cli_fail("train", &err);
        goto out;
    }
    const int64_t *starts = crnn_batches_next(batches);
    for (int64_t b = 0; b < o->B; b++)
        for (int64_t t = 0; t < o->T; t++) {
            x[t * o->B + b] = crnn_ids_at(ids, starts[b] + t);
            y[t * o->B + b] = crnn_ids_at(ids, starts[b] + t + 1);
        }
    if (crnn_model_eval_ids(model, x, y, &result, NULL, &err) != CRNN_OK) {
        status = cli_fail("train", &err);
        goto out;
    }
    crnn_model_summary(summary, sizeof summary, &sizes, o->B);
    printf("%sInput shape (%d, %d), output shape (%d, %d, %d)\n", summary, (int)o->B, (int)o->T, (int)o->B, (int)o->T,
           (int)sizes.V);
    printf("%lld steps an epoch\nUntrained loss %.4f; ln %d = %.4f\nWhat it writes before training:\n",
           (long long)crnn_batches_steps(batches), result.loss_sum / (double)result.positions, (int)sizes.V,
           log(sizes.V));
    fflush(stdout);
    show_text(j, model, 100);
out:
    free(x);
    free(y);
    crnn_model_free(model);
    crnn_batches_free(batches);
    return status;
}

static int finish(job *j, crnn_status status, const crnn_error *err)
{
    cli_progress_clear(&j->progress);
    if (status == CRNN_ERR_STOPPED) {
        fprintf(stderr, "Stopped and saved at step %lld. Go on with:\n", (long long)crnn_trainer_step(j->trainer));
        cli_put_command(stderr, "train --resume", j->out);
        return 128 + (stop_signal ? stop_signal : SIGINT);
    }
    if (status != CRNN_OK)
        return cli_fail("train", err);
    print_summary(j);
    return EXIT_DONE;
}

/* Everything that training needs is allocated by now, on the device that computes. */
static void say_memory(const job *j)
{
    const double mib = 1048576;
    const crnn_model *model = crnn_trainer_model(j->trainer);
    crnn_ids text = crnn_corpus_train(j->corpus);
    double all = (double)crnn_model_memory(model) / mib, ids = (double)text.count * (double)text.width / mib;
    double arenas = 4.0 * sizeof(float) * (double)crnn_model_parameters(&crnn_model_configuration(model)->sizes) / mib;
    fprintf(stderr,
            "memory %.0f MiB: %.0f for weights, gradients and moments, %.0f for the text, the rest for activations\n",
            all, arenas, ids);
}

static int train(job *j)
{
    crnn_error err = {0};
    crnn_train_options options = train_options(j);
    if (opt_flag(&j->set, "dry-run"))
        return dry_run(j, &options);
    crnn_train_hooks hooks = {j, on_note, on_progress, on_epoch, on_saved, ask_stop};
    running = true;
    cli_progress_begin(&j->progress);
    if (j->from)
        j->trainer = crnn_trainer_resume(j->out, j->from, j->corpus, &options, &hooks, &err);
    else
        j->trainer = crnn_trainer_new(j->out, j->corpus, &options, &hooks, &err);
    if (!j->trainer)
        return cli_fail("train", &err);
    crnn_checkpoint_free(j->from);
    j->from = NULL;
    char path[CLI_PATH];
    cli_path(path, j->out);
    if (crnn_trainer_done(j->trainer)) {
        fprintf(stderr, "The run %s has reached its end at step %lld; --epochs N with a larger N goes on.\n", path,
                (long long)crnn_trainer_step(j->trainer));
        if (opt_flag(&j->set, "json"))
            print_json(j);
        return EXIT_DONE;
    }
    fprintf(stderr, "training on %s, run in %s\n", crnn_model_device(crnn_trainer_model(j->trainer))->name, path);
    say_memory(j);
    return finish(j, crnn_trainer_run(j->trainer, &err), &err);
}

static int prepare(job *j)
{
    int status = opt_text(&j->set, "resume") ? take_over(j) : -1;
    if (status >= 0)
        return status;
    if (!j->set.file_count) {
        fprintf(stderr,
                "crnn-gpu train: no text to train on; name files, folders or quoted globs (crnn-gpu train --help)\n");
        return EXIT_USAGE;
    }
    const char *preset = opt_text(&j->set, "preset");
    if (!j->from && preset && strcmp(preset, "notebook") == 0)
        apply(&j->set, notebook, sizeof notebook / sizeof *notebook);
    else if (!j->from && preset)
        apply(&j->set, small, sizeof small / sizeof *small);
    if (!j->from)
        choose_out(j);
    for (int i = 0; i < j->set.file_count; i++)
        j->set.files[i] = absolute(j, j->set.files[i]);
    opt_value *val = opt_get(&j->set, "val");
    for (int i = 0; i < val->count; i++)
        val->list[i] = absolute(j, val->list[i]);
    status = check_keep(j);
    if (status < 0)
        status = cli_device(&j->set, &j->device);
    if (status < 0)
        status = make_options_json(j);
    if (status < 0)
        status = read_corpus(j);
    return status < 0 && j->from ? check_same_text(j, j->from) : status;
}

static void free_job(job *j)
{
    crnn_trainer_free(j->trainer);
    crnn_checkpoint_free(j->from);
    crnn_corpus_free(j->corpus);
    json_decref(j->stored);
    free(j->options_json);
    for (int i = 0; i < j->text_count; i++)
        free(j->texts[i]);
    free(j->texts);
    free(j->reports);
    opt_free(&j->set);
}

int cmd_train(int argc, char **argv)
{
    job j = {.set = {.command = "train",
                     .purpose = "Trains a character-level GRU language model on texts, or goes on with a run.",
                     .usage = "train [OPTION]... FILE...\n       crnn-gpu train --resume RUN\n\n"
                              "FILE is a text, a folder of texts or a quoted glob; all are read in the order given.",
                     .examples =
                         "  crnn-gpu train book.txt\n  crnn-gpu train --preset small --out runs/tales 'tales/*.txt'\n"
                         "  crnn-gpu train --resume runs/tales --epochs 20\n",
                     .wants = "texts",
                     .rows = rows,
                     .row_count = sizeof rows / sizeof *rows}};
    int status = opt_parse(&j.set, argc, argv);
    if (status < 0 && !catch_signals())
        status = EXIT_FAILED;
    if (status < 0)
        status = prepare(&j);
    if (status < 0)
        status = train(&j);
    free_job(&j);
    return status;
}

/* --- a run that is there ------------------------------------------------------------------------------------------------------ */

struct cli_stored {
    job job;
    crnn_train_options options;
};

cli_stored *cli_stored_open(const char *command, const crnn_replay *replay, int *status)
{
    cli_stored *stored = calloc(1, sizeof *stored);
    *status = EXIT_FAILED;
    if (!stored) {
        fprintf(stderr, "crnn-gpu %s: out of memory\n", command);
        return NULL;
    }
    job *j = &stored->job;
    j->set = (opt_set){.command = command, .rows = rows, .row_count = sizeof rows / sizeof *rows};
    *status = opt_parse(&j->set, 0, NULL);
    if (*status < 0)
        *status = take_options(j, replay->options, replay->run);
    if (*status < 0)
        *status = check_keep(j);
    if (*status < 0 && replay->kind != CRNN_DEVICE_AUTO) {
        opt_get(&j->set, "device")->text = replay->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu";
        opt_get(&j->set, "threads")->integer = replay->threads;
    }
    if (*status < 0)
        *status = cli_device(&j->set, &j->device);
    if (*status < 0)
        *status = make_options_json(j);
    if (*status < 0)
        *status = read_corpus(j);
    if (*status < 0)
        *status = check_same_text(j, replay->from);
    if (*status < 0) {
        stored->options = train_options(j);
        return stored;
    }
    cli_stored_free(stored);
    return NULL;
}

const crnn_train_options *cli_stored_options(const cli_stored *stored)
{
    return &stored->options;
}

const crnn_corpus *cli_stored_corpus(const cli_stored *stored)
{
    return stored->job.corpus;
}

void cli_stored_free(cli_stored *stored)
{
    if (!stored)
        return;
    free_job(&stored->job);
    free(stored);
}
