/* checkpoint.h - everything a run needs to go on bit for bit, in one safetensors file (docs/CHECKPOINT.md). */
#ifndef CRNN_CHECKPOINT_H
#define CRNN_CHECKPOINT_H

#include <crnn/error.h>
#include <crnn/model.h>
#include <crnn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The contents of a checkpoint, all in host memory. Free with crnn_checkpoint_free. */
typedef struct {
    crnn_model_sizes sizes;
    int32_t B;        /* rows of the state; 0 in a weights-only file */
    uint32_t *vocab;  /* [V] code points */
    float *weights;   /* [parameters], table order */
    float *m, *v;     /* [parameters] each, or NULL in a weights-only file */
    float *state;     /* [L,B,H], or NULL */
    int64_t step;     /* updates asked for so far, skipped ones included */
    int64_t count;    /* Adam's own */
    int64_t epoch;    /* 0-based, that `position` is in */
    int64_t position; /* steps of the epoch that are done */
    uint64_t seed;
    double rate_factor;    /* halved when a run went back; 1 at the start */
    int64_t returns;       /* how often it went back */
    double best_val_loss;  /* INFINITY before the first */
    int64_t best_step;     /* of the checkpoint with it; -1 before the first */
    double loss_last;      /* of the last step that was not skipped; INFINITY before the first */
    double epoch_loss_sum; /* what the epoch has summed up so far, for its report */
    int64_t epoch_positions, epoch_hits;
    char *options; /* JSON object: the run's options */
    int64_t corpus_characters;
    uint8_t corpus_sha256[32];
} crnn_checkpoint;

/* Gives an empty checkpoint with memory for sizes (with Adam and state where training). NULL with err. */
crnn_checkpoint *crnn_checkpoint_new(const crnn_model_sizes *sizes, int32_t B, bool training, crnn_error *err);
void crnn_checkpoint_free(crnn_checkpoint *ckpt);

/* Writes `name` in directory `dir` by the protocol of docs/CHECKPOINT.md: when it returns CRNN_OK, the file survives a crash of the machine.
 * note: told of a disk that is nearly full; may be NULL. CRNN_ERR_FORMAT where a value is not finite. */
crnn_status crnn_checkpoint_write(const crnn_checkpoint *ckpt, const char *dir, const char *name,
                                  void (*note)(void *user, const char *sentence), void *user, crnn_error *err);
/* Reads and checks a file wholly before it returns it. CRNN_ERR_FORMAT names what is wrong with it. */
crnn_checkpoint *crnn_checkpoint_read(const char *path, crnn_error *err);
/* Weights from any safetensors file with the canonical names; floats of any width (F64, F32, F16, BF16); shapes must fit.
 * weights: [parameters] out. */
crnn_status crnn_weights_read(const char *path, const crnn_model_sizes *sizes, float *weights, crnn_error *err);

/* Path of the checkpoint that RUN|CKPT stands for: the file itself, or a run's newest valid one (or its best on held-out text),
 * naming to note each one skipped and why. out: the checkpoint, read. path: where it was found (malloc'd; may be NULL). */
crnn_checkpoint *crnn_checkpoint_find(const char *run_or_file, bool best, char **path,
                                      void (*note)(void *user, const char *sentence), void *user, crnn_error *err);

#ifdef __cplusplus
}
#endif
#endif
