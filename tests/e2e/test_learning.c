/* That training teaches: a short text by heart, and a real one better than counting threes of characters does. */
#include "support/cmocka.h"

#include "support/device.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = scratch_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

typedef struct {
    crnn_epoch_report last;
    double best; /* bits per character on held-out text */
} result;

static void on_epoch(void *user, const crnn_epoch_report *report)
{
    result *r = user;
    r->last = *report;
    if (report->val_bpc < r->best)
        r->best = report->val_bpc;
}

static result train(const crnn_corpus *corpus, const crnn_train_options *options)
{
    crnn_error err = {CRNN_OK, ""};
    result r = {.best = (double)INFINITY};
    crnn_train_hooks hooks = {.user = &r, .epoch = on_epoch};
    crnn_trainer *trainer = crnn_trainer_new(scratch_path(dir, "run"), corpus, options, &hooks, &err);
    if (!trainer || crnn_trainer_run(trainer, &err) != CRNN_OK)
        fail_msg("%s", err.text);
    crnn_trainer_free(trainer);
    return r;
}

static crnn_train_options small(void)
{
    crnn_train_options o = crnn_train_options_default();
    o.device = test_device();
    o.device.threads = 1; /* as small as this, one thread is as fast, and it waits for no other */
    o.checkpoint_every = 0;
    return o;
}

static void a_short_text_is_learnt_by_heart(void **state)
{
    (void)state;
    static const char text[] =
        "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo de los "
        "de lanza en astillero, adarga antigua, rocín flaco y galgo corredor.";
    crnn_text_options how = crnn_text_options_default();
    crnn_corpus *corpus = crnn_corpus_from_text(text, strlen(text), &how, NULL);
    assert_non_null(corpus);
    crnn_train_options o = small();
    o.B = 1;
    o.T = (int32_t)crnn_corpus_train(corpus).count - 1;
    o.E = 16;
    o.H = 64;
    o.lr = 0.01F;
    o.clip = 1;
    o.epochs = 300;
    result r = train(corpus, &o);
    print_message("a text of %d characters: %.4f nats after %d steps\n", o.T + 1, r.last.loss_last, (int)r.last.step);
    assert_true(r.last.loss_last < 0.05);
    assert_true(r.last.accuracy > 0.99);
    crnn_corpus_free(corpus);
}

/* Bits per character of ids under counts of threes in the text trained on, each count one more than it was. */
static double trigram_bpc(crnn_ids train_ids, crnn_ids ids, int32_t V)
{
    size_t size = (size_t)V;
    uint32_t *threes = calloc(size * size * size, sizeof *threes), *twos = calloc(size * size, sizeof *twos);
    assert_true(threes && twos);
    for (int64_t i = 2; i < train_ids.count; i++) {
        size_t context = crnn_ids_at(train_ids, i - 2) * size + crnn_ids_at(train_ids, i - 1);
        threes[context * size + crnn_ids_at(train_ids, i)]++;
        twos[context]++;
    }
    double bits = 0;
    for (int64_t i = 2; i < ids.count; i++) {
        size_t context = crnn_ids_at(ids, i - 2) * size + crnn_ids_at(ids, i - 1);
        bits -= log2((threes[context * size + crnn_ids_at(ids, i)] + 1.0) / (twos[context] + (double)V));
    }
    free(threes);
    free(twos);
    return bits / (double)(ids.count - 2);
}

static void hold_against_trigram(const char *path, int64_t epochs, int32_t B, double val_split)
{
    crnn_error err = {CRNN_OK, ""};
    crnn_text_options how = crnn_text_options_default();
    how.val_split = val_split;
    crnn_corpus *corpus = crnn_corpus_read(&path, 1, NULL, 0, &how, &err);
    if (!corpus)
        fail_msg("%s", err.text);
    crnn_train_options o = small();
    o.B = B;
    o.T = 50;
    o.E = 32;
    o.H = 128;
    o.lr = 3e-3F;
    o.clip = 1;
    o.epochs = epochs;
    double counted =
        trigram_bpc(crnn_corpus_train(corpus), crnn_corpus_val(corpus), crnn_vocab_size(crnn_corpus_vocab(corpus)));
    result r = train(corpus, &o);
    print_message("bits per character on held-out text: 3-gram %.3f, model %.3f at its best, %.3f at the end\n",
                  counted, r.best, r.last.val_bpc);
    assert_true(r.last.val_bpc < counted); /* the end, so that nothing was chosen by the held-out text */
    crnn_corpus_free(corpus);
}

static void a_model_of_our_own_text_beats_a_smoothed_trigram_on_what_was_held_out(void **state)
{
    (void)state;
    hold_against_trigram(CRNN_SOURCE_DIR "/data/cuentos.txt", 30, 16, 0.1);
}

/* A megabyte, where counts of threes are hard to beat. */
static void so_does_a_model_of_a_large_text(void **state)
{
    (void)state;
    const char *path = scratch_shared("corpora/tinyshakespeare.txt");
    if (!path) {
        print_message("corpora/tinyshakespeare.txt is not there\n");
        skip();
    }
    hold_against_trigram(path, 2, 32, 0.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_short_text_is_learnt_by_heart, begin, end),
        cmocka_unit_test_setup_teardown(a_model_of_our_own_text_beats_a_smoothed_trigram_on_what_was_held_out, begin,
                                        end),
        cmocka_unit_test_setup_teardown(so_does_a_model_of_a_large_text, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
