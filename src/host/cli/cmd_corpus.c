/* crnn-gpu corpus: a text as training will see it, in numbers and in pieces. */
#include "host/cli/cli.h"
#include <stdio.h>
#include <stdlib.h>

static const opt_row rows[] = {
    {"repeat", OPT_INT, "1", "N", 1, 1000000, "take the whole text N times", "Text"},
    CLI_TEXT_ROWS,
    {"batch", OPT_INT, "64", "N", 1, 1 << 24, "rows of a batch", "Batches"},
    {"length", OPT_INT, "100", "N", 1, 1 << 24, "characters of a row in a step", NULL},
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
};

/* Python's repr of count characters from index on, malloc'd. */
static char *repr(const crnn_corpus *corpus, int64_t index, int64_t count)
{
    crnn_ids ids = crnn_corpus_train(corpus);
    if (index + count > ids.count)
        count = ids.count - index;
    uint32_t *codes = malloc(((size_t)count + 1) * sizeof *codes);
    for (int64_t i = 0; codes && i < count; i++)
        codes[i] = crnn_vocab_codes(crnn_corpus_vocab(corpus))[crnn_ids_at(ids, index + i)];
    size_t size = codes ? crnn_repr(NULL, 0, codes, (size_t)count) : 0;
    char *out = codes ? malloc(size + 1) : NULL;
    if (out)
        crnn_repr(out, size + 1, codes, (size_t)count);
    free(codes);
    return out;
}

static void print_repr(const char *label, const crnn_corpus *corpus, int64_t index, int64_t count)
{
    char *text = repr(corpus, index, count);
    printf("%s%s\n", label, text ? text : "");
    free(text);
}

/* Steps per epoch and sequences of one batching; zeros where the text is too short. */
static void plan(const opt_set *set, crnn_batching batching, int64_t characters, int64_t *sequences, int64_t *steps)
{
    crnn_batches_config config = {batching, characters, (int32_t)opt_int(set, "batch"), (int32_t)opt_int(set, "length"),
                                  10000,    1};
    crnn_batches_count(&config, sequences, steps, NULL);
}

static void print_json(const opt_set *set, const crnn_corpus *corpus)
{
    const crnn_vocab *vocab = crnn_corpus_vocab(corpus);
    json_t *files = json_array(), *codes = json_array();
    int64_t N = crnn_corpus_train(corpus).count, sequences[2], steps[2];
    for (int i = 0; i < crnn_corpus_file_count(corpus); i++) {
        crnn_text_file f = crnn_corpus_file(corpus, i);
        json_array_append_new(files, json_pack("{s:s, s:I, s:I}", "path", f.path, "bytes", (json_int_t)f.bytes,
                                               "characters", (json_int_t)f.characters));
    }
    for (int32_t v = 0; v < crnn_vocab_size(vocab); v++)
        json_array_append_new(codes, json_integer(crnn_vocab_codes(vocab)[v]));
    plan(set, CRNN_STREAMS, N, &sequences[0], &steps[0]);
    plan(set, CRNN_WINDOWS, N, &sequences[1], &steps[1]);
    cli_print_json(json_pack("{s:o, s:I, s:i, s:o, s:{s:I, s:I}, s:{s:I, s:I}}", "files", files, "characters",
                             (json_int_t)N, "vocabulary", (int)crnn_vocab_size(vocab), "codes", codes, "streams",
                             "sequences", (json_int_t)sequences[0], "steps_per_epoch", (json_int_t)steps[0], "windows",
                             "sequences", (json_int_t)sequences[1], "steps_per_epoch", (json_int_t)steps[1]));
}

static void print_vocabulary(const crnn_vocab *vocab)
{
    enum { PER_LINE = 6 };
    for (int32_t v = 0; v < crnn_vocab_size(vocab); v++) {
        char shown[32];
        crnn_repr(shown, sizeof shown, crnn_vocab_codes(vocab) + v, 1);
        printf("%8s: %5d%s", shown, (int)v,
               v % PER_LINE == PER_LINE - 1 || v + 1 == crnn_vocab_size(vocab) ? "\n" : ",");
    }
}

static void print_text(const opt_set *set, const crnn_corpus *corpus)
{
    const crnn_vocab *vocab = crnn_corpus_vocab(corpus);
    crnn_ids ids = crnn_corpus_train(corpus);
    int64_t N = ids.count, T = opt_int(set, "length"), sequences, steps;
    printf("Files\n");
    for (int i = 0; i < crnn_corpus_file_count(corpus); i++) {
        crnn_text_file f = crnn_corpus_file(corpus, i);
        char path[CLI_PATH];
        printf("  %12lld bytes %12lld characters  %s\n", (long long)f.bytes, (long long)f.characters,
               cli_path(path, f.path));
    }
    printf("%lld characters, %d distinct\n\n", (long long)N, (int)crnn_vocab_size(vocab));
    print_repr("The first 250 characters\n  ", corpus, 0, 250);
    printf("\nCharacters and their ids\n");
    print_vocabulary(vocab);
    print_repr("\nThe first 13 characters: ", corpus, 0, 13);
    printf("as ids: [");
    for (int64_t i = 0; i < 13 && i < N; i++)
        printf("%s%d", i ? " " : "", crnn_ids_at(ids, i));
    printf("]\n\nThe first sequences of %lld characters\n", (long long)T + 1);
    for (int64_t s = 0; s < 5 && (s + 1) * (T + 1) <= N; s++)
        print_repr("  ", corpus, s * (T + 1), T + 1);
    if (N > T) {
        print_repr("\nInput:  ", corpus, 0, T);
        print_repr("Target: ", corpus, 1, T);
        for (int64_t t = 0; t < 5 && t < T; t++) {
            printf("Step %lld: input %d ", (long long)t, crnn_ids_at(ids, t));
            print_repr("", corpus, t, 1);
            printf("        expected output %d ", crnn_ids_at(ids, t + 1));
            print_repr("", corpus, t + 1, 1);
        }
    }
    printf("\nBatches of %lld rows, %lld characters a row\n", (long long)opt_int(set, "batch"), (long long)T);
    plan(set, CRNN_STREAMS, N, &sequences, &steps);
    printf("  streams  %8lld sequences  %8lld steps an epoch\n", (long long)sequences, (long long)steps);
    plan(set, CRNN_WINDOWS, N, &sequences, &steps);
    printf("  windows  %8lld sequences  %8lld steps an epoch\n", (long long)sequences, (long long)steps);
}

int cmd_corpus(int argc, char **argv)
{
    opt_set set = {.command = "corpus",
                   .purpose = "Shows texts as training will see them: characters, ids, sequences, batches.",
                   .usage = "corpus [OPTION]... FILE...\n\n"
                            "FILE is a text, a folder of texts or a quoted glob; all are read in the order given.",
                   .examples = "  crnn-gpu corpus book.txt\n  crnn-gpu corpus --json 'tales/*.txt'\n",
                   .wants = "files, folders or quoted globs",
                   .least = 1,
                   .rows = rows,
                   .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0) {
        crnn_error err = {0};
        crnn_text_options options = cli_text_options(&set);
        options.repeat = (int32_t)opt_int(&set, "repeat");
        crnn_corpus *corpus = crnn_corpus_read(set.files, set.file_count, NULL, 0, &options, &err);
        if (corpus)
            (opt_flag(&set, "json") ? print_json : print_text)(&set, corpus);
        else
            cli_fail("corpus", &err);
        status = corpus ? EXIT_DONE : err.status == CRNN_ERR_ARGUMENT ? EXIT_USAGE : EXIT_DATA;
        crnn_corpus_free(corpus);
    }
    opt_free(&set);
    return status;
}
