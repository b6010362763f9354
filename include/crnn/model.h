/* model.h - Embedding(V,E) -> GRU(H) x L -> Dense(V), on one device, for batches of one shape (T,B).
 *
 * A model owns its weights, the optimizer's moments and the carried hidden state. Weights cross this door in the canonical form
 * of docs/MODEL.md: row-major float32, gates z, r, h, two bias rows.
 */
#ifndef CRNN_MODEL_H
#define CRNN_MODEL_H

#include <crnn/device.h>
#include <crnn/error.h>
#include <crnn/text.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int32_t V, E, H, L;
    float dropout; /* between layers, in [0,1) */
} crnn_model_sizes;

/* One canonical tensor: gru/kernel and the like. */
typedef struct {
    char name[48];
    int32_t rank; /* 1 or 2 */
    int64_t shape[2];
    int64_t offset; /* in floats, in the order of the table */
    int64_t count;  /* floats */
} crnn_tensor_info;

/* The table of canonical tensors. Returns how many; writes at most max. Total floats: offset + count of the last. */
int crnn_model_tensors(crnn_tensor_info *tensors, int max, const crnn_model_sizes *sizes);
int64_t crnn_model_parameters(const crnn_model_sizes *sizes);
/* What Keras's model.summary() prints for these sizes and batch B, into out. Returns bytes needed without the NUL. */
size_t crnn_model_summary(char *out, size_t size, const crnn_model_sizes *sizes, int32_t B);

typedef struct {
    crnn_model_sizes sizes;
    int32_t B, T;
    bool training; /* with gradients and moments */
    uint64_t seed; /* of the initial weights and of dropout */
} crnn_model_config;

typedef struct crnn_model crnn_model;

/* Allocates everything the model will ever need and draws the initial weights: embeddings uniform +-0.05, kernels Glorot uniform
 * (fan-in, fan-out 3H; dense: H, V), biases zero. CRNN_ERR_MEMORY names what was asked, free, total, and the largest B that fits. */
crnn_model *crnn_model_new(const crnn_model_config *config, const crnn_device_config *device, crnn_error *err);
void crnn_model_free(crnn_model *model);
const crnn_model_config *crnn_model_configuration(const crnn_model *model);
const crnn_device_info *crnn_model_device(const crnn_model *model);
int64_t crnn_model_memory(const crnn_model *model); /* bytes it allocated */
/* How its recurrent layers are computed. A run records the name: another way gives other bits. */
const crnn_rnn_choice *crnn_model_rnn_choice(const crnn_model *model);

/* What is read or written by name: the weights, their gradients (of the last step), Adam's moments. */
typedef enum { CRNN_WEIGHTS, CRNN_GRADIENTS, CRNN_ADAM_M, CRNN_ADAM_V } crnn_role;
/* canonical: [crnn_model_parameters] floats, all tensors in table order. */
crnn_status crnn_model_get(crnn_model *model, crnn_role role, float *canonical, crnn_error *err);
crnn_status crnn_model_set(crnn_model *model, crnn_role role, const float *canonical, crnn_error *err);
/* state: [L,B,H]. */
crnn_status crnn_model_get_state(crnn_model *model, float *state, crnn_error *err);
crnn_status crnn_model_set_state(crnn_model *model, const float *state, crnn_error *err); /* NULL: zeros */

/* Gives the model a text to gather batches from; copied to where the device wants it. */
crnn_status crnn_model_set_text(crnn_model *model, crnn_ids ids, crnn_error *err);

/* One training step's rates. */
typedef struct {
    float lr, beta1, beta2, epsilon; /* Adam as Keras does it */
    float clip;                      /* global norm; 0: off */
    float weight_decay;              /* decoupled, times lr; 0: off */
    int64_t count;                   /* Adam's t of this update, from 1 */
    int64_t step;                    /* numbers the dropout masks */
} crnn_update;
crnn_update crnn_update_default(void); /* 1e-3, 0.9, 0.999, 1e-7, 0, 0, 1, 1 */

typedef struct {
    double loss_sum;   /* nats, over the positions that count */
    int64_t positions; /* that count */
    int64_t hits;      /* whose most likely character was the right one */
    float grad_norm;   /* before clipping; 0 in evaluation */
    bool finite;       /* loss and gradients; where false nothing was updated and the state is as before */
} crnn_step_result;

/* One step on B rows that begin at starts [B] of the text that was set: forward, loss, backward, update; carries the state. */
crnn_status crnn_model_train(crnn_model *model, const int64_t *starts, const crnn_update *update,
                             crnn_step_result *result, crnn_error *err);
/* n such steps, one after the other: starts [n,B], updates [n], results [n]. On a GPU they are launched together and waited for once.
 * *done: how many were made: all, or those up to the first that was not finite; what comes after it is untouched. The same bits as
 * one by one. After an error *done is how many are known to be sound. */
crnn_status crnn_model_train_several(crnn_model *model, const int64_t *starts, const crnn_update *updates, int64_t n,
                                     crnn_step_result *results, int64_t *done, crnn_error *err);
/* How many steps at a time are worth asking for: as many as fit into some 50 ms, by what the last ones took; at first 1, at most
 * crnn_model_most_steps(). More in a call are made, too, but not launched together. */
int32_t crnn_model_steps_at_once(const crnn_model *model);
int32_t crnn_model_most_steps(const crnn_model *model);
/* One step on ids given by hand: x, y [T,B]; y may hold CRNN_NO_ID where a position does not count. */
crnn_status crnn_model_train_ids(crnn_model *model, const uint16_t *x, const uint16_t *y, const crnn_update *update,
                                 crnn_step_result *result, crnn_error *err);
/* Forward and loss alone; carries the state; leaves weights and gradients as they are. logits: [T,B,V] or NULL. */
crnn_status crnn_model_eval_ids(crnn_model *model, const uint16_t *x, const uint16_t *y, crnn_step_result *result,
                                float *logits, crnn_error *err);
/* Scores a text statefully from a zero state: n characters in min(B, max(1, n/1000)) streams, every position, the ragged end too.
 * stop, where it is not NULL, is asked before each batch: true ends it with CRNN_ERR_STOPPED. The carried state is as before afterwards. */
crnn_status crnn_model_evaluate(crnn_model *model, crnn_ids ids, bool (*stop)(void *user), void *user,
                                crnn_step_result *result, crnn_error *err);

/* Time spent by op since the last reset, for `bench`; off until asked for, as timed steps are not recorded. Of steps that are made in one call
 * some 500 ops are timed. */
typedef struct {
    char name[32];
    double seconds;
    double flop;  /* executed, per call */
    double bytes; /* that must be read or written at the least, per call */
    int64_t calls;
} crnn_op_time;
void crnn_model_time_ops(crnn_model *model, bool on);                         /* also resets */
int crnn_model_op_times(const crnn_model *model, crnn_op_time *ops, int max); /* returns how many */
/* What the device of the model could do: flop a second of one large product in its precision, bytes a second of one large copy. Both 0 where
 * that fails. */
crnn_status crnn_model_rates(crnn_model *model, double *peak, double *copy, crnn_error *err);

#ifdef __cplusplus
}
#endif
#endif
