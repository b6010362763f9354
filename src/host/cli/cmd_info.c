/* crnn-gpu info: what a run or a checkpoint holds. */
#include "host/cli/cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const opt_row rows[] = {
    {"best", OPT_FLAG, NULL, "", 0, 0, "the run's best checkpoint on held-out text, not its newest", "Model"},
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
};

static void print_json(const crnn_checkpoint *c, const char *path)
{
    json_t *options = json_loads(c->options, 0, NULL);
    cli_print_json(json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:I, s:b, s:I, s:I, s:I, s:o, s:I, s:I, s:o}", "path", path, "vocabulary",
        c->sizes.V, "embedding", c->sizes.E, "units", c->sizes.H, "layers", c->sizes.L, "parameters",
        (json_int_t)crnn_model_parameters(&c->sizes), "can_continue", c->m != NULL, "step", (json_int_t)c->step,
        "epoch", (json_int_t)c->epoch, "position", (json_int_t)c->position, "best_val_loss",
        isfinite(c->best_val_loss) ? json_real(c->best_val_loss) : json_null(), "best_step", (json_int_t)c->best_step,
        "corpus_characters", (json_int_t)c->corpus_characters, "options", options ? options : json_null()));
}

static void print_text(const crnn_checkpoint *c, const char *path)
{
    char summary[16384], shown[1024], file[CLI_PATH];
    crnn_model_summary(summary, sizeof summary, &c->sizes, c->B ? c->B : 1);
    printf("%s\nfile        %s\nstep        %lld (%lld epoch%s", summary, cli_path(file, path), (long long)c->step,
           (long long)c->epoch, c->epoch == 1 ? "" : "s");
    if (c->position)
        printf(" and %lld steps", (long long)c->position);
    printf(" done)\n");
    if (isfinite(c->best_val_loss))
        printf("best        %.4f nats on held-out text, at step %lld\n", c->best_val_loss, (long long)c->best_step);
    printf("text        %lld characters\ncontinues   %s\n", (long long)c->corpus_characters,
           c->m ? "yes: it holds Adam's moments and the hidden state" : "no: weights only");
    size_t length = crnn_repr(shown, sizeof shown, c->vocab, (size_t)(c->sizes.V < 60 ? c->sizes.V : 60));
    shown[length < sizeof shown ? length : sizeof shown - 1] = 0;
    printf("vocabulary  %d characters: %s%s\n", (int)c->sizes.V, shown, c->sizes.V > 60 ? " ..." : "");
}

int cmd_info(int argc, char **argv)
{
    opt_set set = {
        .command = "info",
        .purpose = "Shows what a run or a checkpoint holds: the model's table, where training stands, the vocabulary.",
        .usage = "info [OPTION]... RUN|CHECKPOINT",
        .examples = "  crnn-gpu info runs/book-1\n",
        .wants = "one run or checkpoint",
        .least = 1,
        .most = 1,
        .rows = rows,
        .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0) {
        crnn_error err = {0};
        char *path = NULL;
        crnn_checkpoint *ckpt = crnn_checkpoint_find(set.files[0], opt_flag(&set, "best"), &path, cli_note, NULL, &err);
        if (!ckpt) {
            cli_fail("info", &err);
            status = EXIT_DATA;
        } else {
            (opt_flag(&set, "json") ? print_json : print_text)(ckpt, path);
            status = EXIT_DONE;
        }
        crnn_checkpoint_free(ckpt);
        free(path);
    }
    opt_free(&set);
    return status;
}
