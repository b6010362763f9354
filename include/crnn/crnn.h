/* crnn.h - the whole of libcrnn: character-level GRU language models, trained and sampled. */
#ifndef CRNN_CRNN_H
#define CRNN_CRNN_H

#include <crnn/batches.h>
#include <crnn/checkpoint.h>
#include <crnn/device.h>
#include <crnn/doctor.h>
#include <crnn/error.h>
#include <crnn/model.h>
#include <crnn/sample.h>
#include <crnn/text.h>
#include <crnn/train.h>
#include <crnn/verify.h>

#ifdef __cplusplus
extern "C" {
#endif

const char *crnn_version(void); /* "0.1.0" */

#ifdef __cplusplus
}
#endif
#endif
