/* checkpoint.h - what writing and reading a checkpoint share. docs/CHECKPOINT.md has the format and both protocols. */
#ifndef CRNN_MODEL_CHECKPOINT_H
#define CRNN_MODEL_CHECKPOINT_H

#include "host/tensors/safetensors.h"
#include <crnn/checkpoint.h>

enum { CRNN_CHECKPOINT_TENSORS = 3 + 3 * 64 /* of the weights alone, at the most */ };

/* Floats of the hidden state. */
static inline int64_t crnn_checkpoint_state_count(const crnn_checkpoint *ckpt)
{
    return (int64_t)ckpt->sizes.L * ckpt->B * ckpt->sizes.H;
}

/* checkpoint.c: whether there is no infinity and no NaN; CRNN_ERR_FORMAT says where one is. */
bool crnn_all_finite(const float *x, int64_t n);
crnn_status crnn_checkpoint_check_finite(const crnn_checkpoint *ckpt, const char *path, crnn_error *err);

/* metadata.c: everything but the tensors. */
enum { CRNN_METADATA = 25, CRNN_METADATA_ROOM = 72 };
/* Fills meta, whose values lie in room or in ckpt. */
void crnn_metadata_list(crnn_st_meta meta[CRNN_METADATA], char room[CRNN_METADATA][CRNN_METADATA_ROOM],
                        const crnn_checkpoint *ckpt);
/* Fills the numbers of ckpt from a checkpoint of this format. CRNN_ERR_FORMAT where it is none, or a number is missing or cannot be. path: as
 * messages show it. */
crnn_status crnn_metadata_read(crnn_checkpoint *ckpt, const crnn_st_file *file, const char *path, crnn_error *err);
/* After that: CRNN_OK says to whoever reads the options later that they are an object of sane size. */
crnn_status crnn_metadata_check_options(const crnn_st_file *file, const char *path, crnn_error *err);

#endif
