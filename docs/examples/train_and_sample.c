/* train_and_sample.c RUN FILE... - learns the texts into the new directory RUN, then writes 300 characters.
 *
 *     cc train_and_sample.c $(pkg-config --cflags --libs crnn) -o train_and_sample
 */
#include <crnn/crnn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    crnn_error err = {.status = CRNN_OK};
    crnn_text_options text = crnn_text_options_default();
    crnn_train_options options = crnn_train_options_default();
    options.B = 16, options.T = 64, options.E = 32, options.H = 128, options.epochs = 8, options.lr = 5e-3f;
    crnn_corpus *corpus =
        argc > 2 ? crnn_corpus_read((const char *const *)argv + 2, argc - 2, NULL, 0, &text, &err) : NULL;
    crnn_trainer *trainer = corpus ? crnn_trainer_new(argv[1], corpus, &options, NULL, &err) : NULL;
    if (!trainer || crnn_trainer_run(trainer, &err) != CRNN_OK)
        return fprintf(stderr, "%s\n", argc > 2 ? err.text : "usage: train_and_sample RUN FILE..."), 1;
    crnn_checkpoint *ckpt = crnn_checkpoint_find(argv[1], false, NULL, NULL, NULL, &err);
    crnn_sample_options draw = crnn_sample_options_default();
    crnn_sampler *sampler =
        ckpt ? crnn_sampler_new(&ckpt->sizes, ckpt->weights, 1, &draw, &options.device, &err) : NULL;
    uint16_t prime = 0, ids[300]; /* the prime: the first character of the vocabulary, a newline */
    if (!sampler || crnn_sampler_prime(sampler, &prime, 1, &err) || crnn_sampler_write(sampler, ids, 300, &err))
        return fprintf(stderr, "%s\n", err.text), 1;
    for (int i = 0; i < 300; i++) {
        char utf8[4];
        fwrite(utf8, 1, (size_t)crnn_utf8_encode(utf8, ckpt->vocab[ids[i]]), stdout);
    }
    crnn_sampler_free(sampler);
    crnn_checkpoint_free(ckpt);
    crnn_trainer_free(trainer);
    crnn_corpus_free(corpus);
}
