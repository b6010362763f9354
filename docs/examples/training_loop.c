/* training_loop.c DIR EPOCHS FILE... - a training loop written by hand, the place to put a curriculum in.
 *
 *     cc training_loop.c $(pkg-config --cflags --libs crnn) -o training_loop
 *
 * What a run of `crnn-gpu train` does for you stands here in the open: the state is zeroed when an epoch begins, each step is
 * one call that returns the loss, and the weights are saved every five epochs into the directory DIR, which must exist.
 * `crnn-gpu sample DIR/epoch-0005.safetensors` writes with them.
 */
#include <crnn/crnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A weights-only file: sizes, vocabulary, weights. */
static crnn_status save_weights(crnn_model *model, const crnn_vocab *vocab, const char *dir, int epoch, crnn_error *err)
{
    const crnn_model_sizes *sizes = &crnn_model_configuration(model)->sizes;
    char name[64];
    snprintf(name, sizeof name, "epoch-%04d.safetensors", epoch);
    crnn_checkpoint *ckpt = crnn_checkpoint_new(sizes, 0, false, err);
    if (!ckpt)
        return err->status;
    memcpy(ckpt->vocab, crnn_vocab_codes(vocab), (size_t)sizes->V * sizeof *ckpt->vocab);
    crnn_status status = crnn_model_get(model, CRNN_WEIGHTS, ckpt->weights, err);
    if (status == CRNN_OK)
        status = crnn_checkpoint_write(ckpt, dir, name, NULL, NULL, err);
    crnn_checkpoint_free(ckpt);
    return status;
}

static crnn_status train(crnn_model *model, crnn_batches *batches, const crnn_corpus *corpus, const char *dir,
                         int epochs, crnn_error *err)
{
    crnn_update update = crnn_update_default(); /* Adam at 1e-3 */
    crnn_status status = crnn_model_set_text(model, crnn_corpus_train(corpus), err);
    for (int epoch = 1; status == CRNN_OK && epoch <= epochs; epoch++) {
        time_t start = time(NULL);
        double loss = 0;
        const int64_t *starts;
        status = crnn_batches_seek(batches, epoch - 1, 0, err); /* every epoch has its own order */
        if (status == CRNN_OK)
            status = crnn_model_set_state(model, NULL, err); /* zeros */
        for (int64_t step = 0; status == CRNN_OK && (starts = crnn_batches_next(batches)) != NULL; step++) {
            crnn_step_result result;
            status = crnn_model_train(model, starts, &update, &result, err);
            if (status != CRNN_OK)
                break;
            loss = result.loss_sum / (double)result.positions;
            if (result.finite) /* else nothing was updated */
                update.count++;
            update.step++;
            if (step % 100 == 0)
                printf("Epoch %d batch %lld loss %.4f\n", epoch, (long long)step, loss);
        }
        if (status == CRNN_OK)
            printf("Epoch %d loss %.4f, %.0f s\n", epoch, loss, difftime(time(NULL), start));
        if (status == CRNN_OK && (epoch % 5 == 0 || epoch == epochs))
            status = save_weights(model, crnn_corpus_vocab(corpus), dir, epoch, err);
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 4 || atoi(argv[2]) < 1) {
        fprintf(stderr, "usage: %s DIR EPOCHS FILE...\n", argv[0]);
        return 2;
    }
    crnn_error err = {.status = CRNN_OK};
    crnn_text_options text = crnn_text_options_default();
    crnn_device_config device = crnn_device_config_default();
    crnn_corpus *corpus = crnn_corpus_read((const char *const *)argv + 3, argc - 3, NULL, 0, &text, &err);
    crnn_batches *batches = NULL;
    crnn_model *model = NULL;
    if (corpus) {
        const int32_t B = 8, T = 100;
        crnn_batches_config cut = {.batching = CRNN_WINDOWS,
                                   .characters = crnn_corpus_train(corpus).count,
                                   .B = B,
                                   .T = T,
                                   .shuffle_buffer = 10000,
                                   .seed = 1};
        crnn_model_config config = {
            .sizes = {.V = crnn_vocab_size(crnn_corpus_vocab(corpus)), .E = 64, .H = 128, .L = 1},
            .B = B,
            .T = T,
            .training = true,
            .seed = 1};
        batches = crnn_batches_new(&cut, &err);
        model = batches ? crnn_model_new(&config, &device, &err) : NULL;
    }
    if (model)
        train(model, batches, corpus, argv[1], atoi(argv[2]), &err);
    if (err.status != CRNN_OK)
        fprintf(stderr, "%s\n", err.text);
    crnn_model_free(model);
    crnn_batches_free(batches);
    crnn_corpus_free(corpus);
    return err.status != CRNN_OK;
}
