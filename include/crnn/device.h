/* device.h - what computes: the CPU, or (where it was built in and works) a CUDA GPU. */
#ifndef CRNN_DEVICE_H
#define CRNN_DEVICE_H

#include <crnn/error.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CRNN_DEVICE_AUTO, CRNN_DEVICE_CUDA, CRNN_DEVICE_CPU } crnn_device_kind;
typedef enum { CRNN_FP32, CRNN_TF32, CRNN_BF16 } crnn_precision;

typedef struct {
    crnn_device_kind kind;
    crnn_precision precision;
    int32_t threads; /* of the CPU; 0: all cores this process may use */
    const char
        *rnn_algo; /* the name of one way to compute the recurrent layers, or "auto": on a GPU the fastest right one */
    bool measure_again; /* auto measures, whatever an earlier measurement found */
} crnn_device_config;
crnn_device_config crnn_device_config_default(void); /* auto, fp32, 0, "auto", false */

/* What a device is, for people and for records. */
typedef struct {
    crnn_device_kind kind; /* CPU or CUDA */
    bool usable;
    char name[128];                    /* "AMD EPYC ... , 2 threads" */
    char versions[160];                /* "oneDNN 2.6.3, avx512_bf16" */
    char why[320];                     /* why it is not usable and what to install; else empty */
    int64_t memory_total, memory_free; /* bytes */
    int32_t threads;
} crnn_device_info;

/* Fills info with every device known, usable or not; returns how many there are (may exceed max). */
int crnn_device_list(crnn_device_info *info, int max);
/* The device that config would choose; note (size bytes) becomes the sentence that says which and why, or empty. */
crnn_status crnn_device_choose(crnn_device_info *info, const crnn_device_config *config, char *note, int size,
                               crnn_error *err);

/* One way to compute the recurrent layers on a GPU, and what came of trying it on layers of the shapes that are wanted. */
typedef struct {
    char name[32];
    char why[200];                            /* why it does not serve here; empty: it does */
    double forward_seconds, backward_seconds; /* of all layers of a step; 0 where it was not timed */
    double difference; /* from cuDNN's standard way: the largest of any number, as a share of the largest such number */
} crnn_rnn_candidate;

typedef enum {
    CRNN_RNN_ONLY,      /* the device has no other */
    CRNN_RNN_ASKED_FOR, /* by its name */
    CRNN_RNN_BY_RULE,   /* auto, and the layers do not train: measuring would take longer than it saves */
    CRNN_RNN_MEASURED,
    CRNN_RNN_REMEMBERED /* from an earlier measurement: same GPU, libraries, version of ours, shapes and precision */
} crnn_rnn_reason;

/* Which way computes the recurrent layers of a model, and why. */
enum { CRNN_MAX_RNN_CANDIDATES = 8 };
typedef struct {
    char name[32]; /* as rnn_algo takes it */
    crnn_rnn_reason reason;
    char note[400]; /* one sentence for a person where something is out of the ordinary; else empty */
    int32_t count;  /* of candidates; 0 where none was tried */
    crnn_rnn_candidate candidates[CRNN_MAX_RNN_CANDIDATES];
} crnn_rnn_choice;

#ifdef __cplusplus
}
#endif
#endif
