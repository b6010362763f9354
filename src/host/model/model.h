/* model.h - a model as the rest of F4 sees it: the sampler puts its own ops between the model's. */
#ifndef CRNN_MODEL_MODEL_H
#define CRNN_MODEL_MODEL_H

#include "kernels/backend.h"
#include <crnn/model.h>

enum {
    CRNN_MAX_LAYERS = 64,
    CRNN_QUEUED_STEPS = 128, /* at most so many steps, and so many starts of rows, are queued at a time */
    CRNN_QUEUED_STARTS = 1 << 20,
    CRNN_SEVERAL_STEPS = 8 /* steps of a recorded list of several */
};

/* Rows of `bench`'s table, in the order of a step. */
typedef enum {
    OP_GATHER,
    OP_GRU,
    OP_DROPOUT,
    OP_LOGITS,
    OP_LOSS,
    OP_HEAD,
    OP_GRU_BACKWARD,
    OP_DROPOUT_BACKWARD,
    OP_NORM,
    OP_ADAM,
    OP_COUNT
} crnn_op_row;

struct crnn_model {
    crnn_model_config config;
    crnn_device_info device;
    crnn_backend *be;
    crnn_rnn_choice rnn;
    crnn_gru *gru[CRNN_MAX_LAYERS];

    /* One arena a role, all of the same private layout: embeddings, each layer's block, dense kernel, dense bias. */
    float *arena[4]; /* by crnn_role; gradients and moments only where training */
    int64_t embeddings, layer[CRNN_MAX_LAYERS], dense_kernel, dense_bias, floats;

    uint16_t *x, *y;                         /* [T,B] */
    int64_t *starts;                         /* [B] */
    float *hs[CRNN_MAX_LAYERS];              /* [T,B,H] */
    float *dropped[CRNN_MAX_LAYERS];         /* [T,B,H] input of layer l, where there is dropout */
    float *logits;                           /* [T,B,V]; training steps: what head() works in */
    float *dhs, *dx;                         /* [T,B,H] */
    float *state, *next_state, *saved_state; /* [L,B,H] */
    crnn_step_inputs *inputs;
    crnn_step_numbers *numbers; /* of the present step: the first of the queue's */
    crnn_step_queue queue;
    crnn_step_inputs *host_inputs;   /* [most] */
    crnn_step_numbers *host_numbers; /* [most] */
    int32_t most;                    /* steps that the queue holds */
    double step_seconds;             /* what each of the steps that were last made took */
    int32_t steps_made;              /* how many those were; 0: none yet */

    void *text; /* on the device */
    crnn_ids ids;

    uint16_t *host_x, *host_y; /* [T,B] for evaluation */
    crnn_op_time ops[OP_COUNT];
    bool timing;
    uint8_t marked[CRNN_MARKS]; /* the row of the op between two marks */
    int32_t marks;              /* of the present call */
};

/* Queues a whole training step on x and y that are on the device, by the inputs of the present step. */
void crnn_model_train_step(crnn_model *model);
/* Queues a forward pass without dropout and the loss of it; logits stay as they are. */
void crnn_model_score(crnn_model *model, void *unused);
/* Bytes of the state. */
size_t crnn_model_state_bytes(const crnn_model *model);
double crnn_model_now(void); /* seconds of a steady clock */
/* timing.c. Where ops are timed: the first before the ops of a call; book after each op, whose time is that since the one before, with the numbers
 * that it must read or write at the least; the last after the call's wait. What a call of several steps has beyond CRNN_MARKS is not booked. */
void crnn_model_begin_booking(crnn_model *model);
void crnn_model_book(crnn_model *model, crnn_op_row row, double flop, double floats);
void crnn_model_end_booking(crnn_model *model);
/* Queues a forward pass without dropout: x on the device -> logits on the device, from and into the carried state. */
void crnn_model_forward(crnn_model *model, void *unused);
/* record() of the backend around ops(model, user), but where ops are timed, which cannot be where they are recorded. */
void crnn_model_record(crnn_model *model, crnn_record list, void (*ops)(crnn_model *model, void *user), void *user);

#endif
