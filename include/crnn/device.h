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
    int32_t threads;      /* of the CPU; 0: all cores this process may use */
    const char *rnn_algo; /* "auto" or the name of one way to compute the recurrent layer */
} crnn_device_config;
crnn_device_config crnn_device_config_default(void); /* auto, fp32, 0, "auto" */

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

#ifdef __cplusplus
}
#endif
#endif
