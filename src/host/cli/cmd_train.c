/* crnn-gpu train: a run, and what a person sees of it. */
#include "host/cli/progress.h"
#include "host/cli/setup.h"
#include "host/cli/signals.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Everything a run of this command holds. */
typedef struct {
    cli_setup setup;
    crnn_trainer *trainer;
    cli_progress progress;
    crnn_epoch_report *reports;
    int report_count;
} job;

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
    const crnn_vocab *vocab = crnn_corpus_vocab(j->setup.corpus);
    crnn_sample_options options = crnn_sample_options_default();
    crnn_error err = {0};
    float *weights = malloc((size_t)crnn_model_parameters(&config->sizes) * sizeof *weights);
    crnn_sampler *sampler = NULL;
    uint16_t id = crnn_vocab_id(vocab, '\n') == CRNN_NO_ID ? 0 : crnn_vocab_id(vocab, '\n'), ids[50];
    if (weights && crnn_model_get(model, CRNN_WEIGHTS, weights, &err) == CRNN_OK)
        sampler = crnn_sampler_new(&config->sizes, weights, 1, &options, &j->setup.device, &err);
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
    int64_t every = opt_int(&j->setup.set, "sample-every");
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
    cli_print_json(json_pack("{s:s, s:I, s:o}", "run", j->setup.out, "step", (json_int_t)crnn_trainer_step(j->trainer),
                             "epochs", epochs));
}

static void print_summary(const job *j)
{
    if (opt_flag(&j->setup.set, "json")) {
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
    printf("The run is in %s. Write with it:\n", cli_path(path, j->setup.out));
    cli_put_command(stdout, "sample", j->setup.out);
}

/* --- the run ------------------------------------------------------------------------------------------------------------------ */

/* Shows what training would begin with. */
static int dry_run(job *j)
{
    const crnn_train_options *o = &j->setup.options;
    crnn_error err = {0};
    crnn_model_sizes sizes = {crnn_vocab_size(crnn_corpus_vocab(j->setup.corpus)), o->E, o->H, o->L, o->dropout};
    crnn_ids ids = crnn_corpus_train(j->setup.corpus);
    crnn_batches *batches =
        crnn_batches_new(&(crnn_batches_config){o->batching, ids.count, o->B, o->T, o->shuffle_buffer, o->seed}, &err);
    crnn_model *model =
        batches ? crnn_model_new(&(crnn_model_config){sizes, o->B, o->T, false, o->seed}, &j->setup.device, &err)
                : NULL;
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
        cli_put_command(stderr, "train --resume", j->setup.out);
        return cli_signals_status();
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
    crnn_ids text = crnn_corpus_train(j->setup.corpus);
    double all = (double)crnn_model_memory(model) / mib, ids = (double)text.count * (double)text.width / mib;
    double arenas = 4.0 * sizeof(float) * (double)crnn_model_parameters(&crnn_model_configuration(model)->sizes) / mib;
    fprintf(stderr,
            "memory %.0f MiB: %.0f for weights, gradients and moments, %.0f for the text, the rest for activations\n",
            all, arenas, ids);
}

static int train(job *j)
{
    crnn_error err = {0};
    if (opt_flag(&j->setup.set, "dry-run"))
        return dry_run(j);
    crnn_train_hooks hooks = {j, on_note, on_progress, on_epoch, on_saved, cli_signals_ask};
    cli_signals_heeded(true);
    cli_progress_begin(&j->progress);
    if (j->setup.from)
        j->trainer = crnn_trainer_resume(j->setup.out, j->setup.from, j->setup.corpus, &j->setup.options, &hooks, &err);
    else
        j->trainer = crnn_trainer_new(j->setup.out, j->setup.corpus, &j->setup.options, &hooks, &err);
    if (!j->trainer)
        return cli_fail("train", &err);
    const bool recorded = j->setup.from && !opt_given(&j->setup.set, "rnn-algo");
    crnn_checkpoint_free(j->setup.from);
    j->setup.from = NULL;
    char path[CLI_PATH];
    cli_path(path, j->setup.out);
    if (crnn_trainer_done(j->trainer)) {
        fprintf(stderr, "The run %s has reached its end at step %lld; --epochs N with a larger N goes on.\n", path,
                (long long)crnn_trainer_step(j->trainer));
        if (opt_flag(&j->setup.set, "json"))
            print_json(j);
        return EXIT_DONE;
    }
    fprintf(stderr, "training on %s, run in %s\n", crnn_model_device(crnn_trainer_model(j->trainer))->name, path);
    cli_say_rnn_choice(crnn_model_rnn_choice(crnn_trainer_model(j->trainer)), recorded);
    say_memory(j);
    return finish(j, crnn_trainer_run(j->trainer, &err), &err);
}

int cmd_train(int argc, char **argv)
{
    job j = {
        .setup.set = {.command = "train",
                      .purpose = "Trains a character-level GRU language model on texts, or goes on with a run.",
                      .usage = "train [OPTION]... FILE...\n       crnn-gpu train --resume RUN\n\n"
                               "FILE is a text, a folder of texts or a quoted glob; all are read in the order given.",
                      .examples =
                          "  crnn-gpu train book.txt\n  crnn-gpu train --preset small --out runs/tales 'tales/*.txt'\n"
                          "  crnn-gpu train --resume runs/tales --epochs 20\n",
                      .wants = "texts",
                      .rows = cli_setup_rows,
                      .row_count = cli_setup_row_count}};
    int status = opt_parse(&j.setup.set, argc, argv);
    if (status < 0 && !cli_signals_catch("train"))
        status = EXIT_FAILED;
    if (status < 0)
        status = cli_setup_given(&j.setup);
    if (status < 0)
        status = train(&j);
    crnn_trainer_free(j.trainer);
    free(j.reports);
    cli_setup_free(&j.setup);
    return status;
}
