/* model.h - what the rest of F4 sees of a model beside <crnn/model.h>. */
#ifndef CRNN_MODEL_MODEL_H
#define CRNN_MODEL_MODEL_H

#include <crnn/model.h>

/* Forward alone, from and into the carried state. x: [T,B] on the host, logits: [T,B,V] on the host. */
crnn_status crnn_model_forward(crnn_model *model, const uint16_t *x, float *logits, crnn_error *err);

#endif
