/* crnn-gpu verify: are the files of a run what they were, and does training give the same bits again? */
#include "host/cli/progress.h"
#include "host/cli/setup.h"
#include "host/cli/signals.h"
#include <stdio.h>
#include <string.h>

static const opt_row rows[] = {
    {"replay", OPT_INT, "0", "N", 0, 1e12, "train N steps again and compare the bits; 0: off", "Checks"},
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
};

typedef struct {
    bool as_json, sound;
    json_t *files;
    cli_progress progress;
} account;

static void tell(void *user, const char *path, bool sound, const char *what)
{
    account *a = user;
    char shown[CLI_PATH];
    a->sound = a->sound && sound;
    if (a->as_json)
        json_array_append_new(a->files, json_pack("{s:s, s:b, s:s}", "path", path, "sound", sound, "what", what));
    else
        printf("%-4s %s: %s\n", sound ? "ok" : "BAD", cli_path(shown, path), what);
    fflush(stdout);
}

static void on_progress(void *user, const crnn_progress *at)
{
    account *a = user;
    cli_progress_step(&a->progress, at);
}

static void on_note(void *user, const char *sentence)
{
    account *a = user;
    cli_progress_clear(&a->progress);
    cli_note(NULL, sentence);
}

/* Bits are only promised where the same machine computes with the same libraries. */
static bool same_device(const crnn_replay *r, const crnn_train_options *options)
{
    crnn_device_info info;
    char note[400];
    if (r->kind == CRNN_DEVICE_AUTO || crnn_device_choose(&info, &options->device, note, sizeof note, NULL) != CRNN_OK)
        return true;
    if (strcmp(info.name, r->device) == 0 && strcmp(info.versions, r->versions) == 0)
        return true;
    fprintf(stderr, "note: the run was trained on %s with %s; this is %s with %s, whose bits may differ\n", r->device,
            r->versions, info.name, info.versions);
    return false;
}

/* Returns -1, or the status to end with. */
static int replay(account *a, const char *run, int64_t steps)
{
    crnn_error err = {0};
    crnn_replay *r = crnn_replay_plan(run, steps, &err);
    int status;
    if (!r)
        return cli_fail("verify", &err), EXIT_DATA;
    cli_setup setup;
    status = cli_setup_stored(&setup, "verify", r);
    if (status < 0) {
        char what[600];
        int64_t lines = 0, from = r->from->step;
        crnn_train_hooks hooks = {.user = a, .note = on_note, .progress = on_progress, .stop = cli_signals_ask};
        same_device(r, &setup.options);
        cli_signals_heeded(true); /* a copy of the run must go */
        cli_progress_begin(&a->progress);
        crnn_status result = crnn_replay_run(r, setup.corpus, &setup.options, &hooks, &lines, &err);
        cli_progress_clear(&a->progress);
        cli_signals_heeded(false);
        if (result == CRNN_OK) {
            snprintf(what, sizeof what,
                     "steps %lld to %lld trained again: the same bits in %lld lines of the history%s",
                     (long long)from + 1, (long long)r->last, (long long)lines,
                     r->to ? " and in the checkpoint at their end" : "");
            tell(a, run, true, what);
        } else if (result == CRNN_ERR_FORMAT) {
            snprintf(what, sizeof what, "steps %lld to %lld trained again: %s", (long long)from + 1, (long long)r->last,
                     err.text);
            tell(a, run, false, what);
        } else {
            status = cli_fail("verify", &err);
            status = result == CRNN_ERR_STOPPED ? cli_signals_status() : status;
        }
    }
    cli_setup_free(&setup);
    crnn_replay_free(r);
    return status;
}

static int verify(account *a, const opt_set *set)
{
    int64_t steps = opt_int(set, "replay");
    int status = -1;
    for (int i = 0; i < set->file_count && status < 0; i++) {
        crnn_error err = {0};
        crnn_status result = crnn_verify(set->files[i], tell, a, &err);
        if (result != CRNN_OK && result != CRNN_ERR_FORMAT) {
            status = cli_fail("verify", &err);
            status = result == CRNN_ERR_IO ? EXIT_DATA : status;
        } else if (result == CRNN_OK && steps > 0) {
            status = replay(a, set->files[i], steps);
        }
    }
    return status >= 0 ? status : a->sound ? EXIT_DONE : EXIT_DATA;
}

int cmd_verify(int argc, char **argv)
{
    opt_set set = {.command = "verify",
                   .purpose =
                       "Checks the files of a run, or single checkpoints: digests, format, finite values, vocabulary,\n"
                       "and that config.json, history and checkpoints tell of one run without a gap. One line a file;\n"
                       "exit status 0 where all are sound, 3 where one is not. --replay trains a part of the run\n"
                       "again, elsewhere, from one checkpoint to a later one or as far as the history goes, and\n"
                       "compares every bit; it needs the run's texts. The run itself is never written to.",
                   .usage = "verify [OPTION]... RUN|CHECKPOINT...",
                   .examples = "  crnn-gpu verify runs/book-1\n  crnn-gpu verify --replay 100 runs/book-1\n",
                   .wants = "runs or checkpoints",
                   .least = 1,
                   .rows = rows,
                   .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0 && opt_int(&set, "replay") > 0 && !cli_signals_catch("verify"))
        status = EXIT_FAILED;
    if (status < 0) {
        account a = {.as_json = opt_flag(&set, "json"), .sound = true, .files = json_array()};
        status = verify(&a, &set);
        if (a.as_json)
            cli_print_json(json_pack("{s:b, s:O}", "sound", status == EXIT_DONE, "files", a.files));
        json_decref(a.files);
    }
    opt_free(&set);
    return status;
}
