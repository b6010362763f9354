/* crnn-gpu eval: how well a model predicts a text. */
#include "host/cli/cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const opt_row rows[] = {
    {"batch", OPT_INT, "64", "N", 1, 1 << 20, "streams at most that the text is read in", "Text"},
    CLI_TEXT_ROWS,
    {"best", OPT_FLAG, NULL, "", 0, 0, "the run's best checkpoint on held-out text, not its newest", "Model"},
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
    CLI_DEVICE_ROWS,
};

static void report(const opt_set *set, const crnn_step_result *r, int64_t unknown)
{
    double loss = r->positions ? r->loss_sum / (double)r->positions : 0;
    double accuracy = r->positions ? (double)r->hits / (double)r->positions : 0;
    if (opt_flag(set, "json")) {
        cli_print_json(json_pack("{s:f, s:f, s:f, s:I, s:I}", "loss", loss, "bpc", loss / log(2), "accuracy", accuracy,
                                 "characters", (json_int_t)r->positions, "unknown", (json_int_t)unknown));
        return;
    }
    printf("loss                %.4f nats a character\nbits per character  %.4f\naccuracy            %.2f "
           "%%\ncharacters          %lld\n",
           loss, loss / log(2), 100 * accuracy, (long long)r->positions);
    if (unknown)
        printf("left out            %lld characters that the model does not know\n", (long long)unknown);
}

static int evaluate(const opt_set *set)
{
    crnn_error err = {0};
    crnn_device_config device;
    crnn_text_options text = cli_text_options(set);
    int status = cli_device(set, &device);
    if (status >= 0)
        return status;
    crnn_corpus *corpus = NULL;
    crnn_model *model = NULL;
    crnn_checkpoint *ckpt = crnn_checkpoint_find(set->files[0], opt_flag(set, "best"), NULL, cli_note, NULL, &err);
    crnn_vocab *vocab = ckpt ? crnn_vocab_new(ckpt->vocab, ckpt->sizes.V, &err) : NULL;
    if (vocab)
        corpus = crnn_corpus_read_with(vocab, set->files + 1, set->file_count - 1, &text, &err);
    if (!corpus) {
        cli_fail("eval", &err);
        status = EXIT_DATA;
        goto out;
    }
    crnn_ids ids = crnn_corpus_train(corpus);
    int64_t rows_wanted = ids.count / 1000 < 1 ? 1 : ids.count / 1000, most = opt_int(set, "batch");
    crnn_model_config config = {
        .sizes = ckpt->sizes, .B = (int32_t)(rows_wanted < most ? rows_wanted : most), .T = 100};
    crnn_step_result result;
    model = crnn_model_new(&config, &device, &err);
    if (!model || crnn_model_set(model, CRNN_WEIGHTS, ckpt->weights, &err) != CRNN_OK ||
        crnn_model_evaluate(model, ids, NULL, NULL, &result, &err) != CRNN_OK) {
        status = cli_fail("eval", &err);
        goto out;
    }
    if (!result.positions) {
        char shown[CLI_PATH];
        fprintf(stderr, "crnn-gpu eval: nothing to score: of %s the model knows %lld characters, and it takes two\n",
                cli_path(shown, set->files[1]), (long long)ids.count);
        status = EXIT_DATA;
        goto out;
    }
    report(set, &result, crnn_corpus_unknown(corpus));
    status = EXIT_DONE;
out:
    crnn_model_free(model);
    crnn_corpus_free(corpus);
    crnn_vocab_free(vocab);
    crnn_checkpoint_free(ckpt);
    return status;
}

int cmd_eval(int argc, char **argv)
{
    opt_set set = {.command = "eval",
                   .purpose = "Scores texts under a trained model: loss, bits per character, accuracy.",
                   .usage = "eval [OPTION]... RUN|CHECKPOINT FILE...",
                   .examples = "  crnn-gpu eval runs/book-1 another-book.txt\n",
                   .wants = "a run or checkpoint, then the texts",
                   .least = 2,
                   .rows = rows,
                   .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0)
        status = evaluate(&set);
    opt_free(&set);
    return status;
}
