/* The trajectory: a run of 120 steps over tinyshakespeare.txt from given weights, through the trainer, against losses in float64.
 *
 * Looked for in $CRNN_GOLDEN_DIR, else in tests/golden; the text in the shared test material. Skipped where the text is not there. */
#include "support/cmocka.h"

#include "host/base/files.h"
#include "support/device.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* float32 stays within 2e-7 here; Adam in PyTorch's form would be off by 2e-4. */
static const double tolerance = 1e-5;

static const char *golden_path(const char *name)
{
    const char *base = getenv("CRNN_GOLDEN_DIR");
    const char *dir =
        scratch_path(base && *base ? base : CRNN_SOURCE_DIR "/tests/golden", "trajectory-tinyshakespeare");
    return scratch_path(dir, name);
}

static int32_t number(const json_t *expected, const char *key)
{
    const json_t *value = json_object_get(expected, key);
    assert_true(json_is_integer(value));
    return (int32_t)json_integer_value(value);
}

static void train(const char *out, const json_t *expected, const char *text)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_text_options how = crnn_text_options_default();
    crnn_corpus *corpus = crnn_corpus_read(&text, 1, NULL, 0, &how, &err);
    if (!corpus)
        fail_msg("%s", err.text);
    assert_int_equal(crnn_vocab_size(crnn_corpus_vocab(corpus)), number(expected, "vocab"));
    assert_int_equal(crnn_corpus_train(corpus).count, number(expected, "characters"));
    crnn_train_options options = crnn_train_options_default();
    options.B = number(expected, "batch");
    options.T = number(expected, "length");
    options.E = number(expected, "embedding");
    options.H = number(expected, "units");
    options.L = number(expected, "layers");
    options.max_steps = number(expected, "steps");
    options.init = golden_path("init.safetensors");
    options.device = test_device();
    options.device.threads = 1; /* two threads that share a busy core wait for each other longer than they compute */
    crnn_trainer *trainer = crnn_trainer_new(out, corpus, &options, NULL, &err);
    if (!trainer || crnn_trainer_run(trainer, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    crnn_trainer_free(trainer);
    crnn_corpus_free(corpus);
}

/* Holds the step losses of the history against those expected; returns the largest relative error. */
static double compare(const char *history, const json_t *losses)
{
    size_t size, steps = 0;
    double worst = 0;
    char *text = crnn_read_file(history, 1 << 20, &size, NULL), *rest = text;
    assert_non_null(text);
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *event = json_loads(line, 0, NULL);
        assert_non_null(event);
        if (strcmp(json_string_value(json_object_get(event, "event")), "step") == 0) {
            double loss = json_number_value(json_object_get(event, "loss"));
            double wanted = json_number_value(json_array_get(losses, steps++));
            assert_int_equal(json_integer_value(json_object_get(event, "step")), steps);
            worst = fmax(worst, fabs(loss - wanted) / wanted);
        }
        json_decref(event);
    }
    free(text);
    assert_int_equal(steps, json_array_size(losses));
    return worst;
}

static void a_run_follows_the_trajectory_of_the_oracle(void **state)
{
    (void)state;
    const char *text = scratch_shared("corpora/tinyshakespeare.txt");
    assert_non_null(text);
    json_t *expected = json_load_file(golden_path("expected.json"), 0, NULL);
    assert_non_null(expected);
    char *dir = scratch_new();
    train(dir, expected, text);
    double worst = compare(scratch_path(dir, "history.jsonl"), json_object_get(expected, "loss"));
    print_message("trajectory: largest relative error of %d losses %.3g (allowed %.3g)\n", number(expected, "steps"),
                  worst, tolerance);
    assert_true(worst <= tolerance);
    json_decref(expected);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_follows_the_trajectory_of_the_oracle)};
    if (!scratch_shared("corpora/tinyshakespeare.txt"))
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
