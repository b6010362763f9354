/* backend.h - THE door to a device: a const table of operations, each with its maths and shapes.
 *
 * Activations are time-major [T,B,.] float32 whatever the precision; device memory is opaque to the host but on the CPU. Ops queue
 * work and return nothing; the first failure latches and later ops do nothing; sync() reports it with the name of its op. What changes from
 * step to step is read from device memory, so that the ops of every step are the same calls and can be recorded. One order of
 * summation: the same calls give the same bits. Gates in every formula are in canonical order z, r, h; where a backend stores its
 * weights in another order, pack and unpack alone know of it. Sizes are positive and were checked by the caller.
 */
#ifndef CRNN_KERNELS_BACKEND_H
#define CRNN_KERNELS_BACKEND_H

#include <crnn/device.h>
#include <crnn/error.h>
#include <crnn/model.h>
#include <crnn/sample.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct crnn_backend crnn_backend;
typedef struct crnn_gru crnn_gru;       /* one recurrent layer bound to its shapes */
typedef struct crnn_writer crnn_writer; /* writes texts with one model, in device memory alone */

typedef struct {
    int32_t T, B, I, H; /* I: width of the input */
    int32_t V;          /* > 0: the input is characters, an embedding table [V,I] is looked up by the layer itself */
    bool training;
} crnn_gru_shape;

/* Numbers of a step, in device memory, so that the update can be decided without the host. */
typedef struct {
    double loss_sum;
    double norm_squared; /* of all gradients */
    int64_t positions, hits;
    int32_t finite; /* loss and gradients; where 0 adam() does nothing */
    int32_t halted; /* a step before this one in the same queue was not taken: then neither is this one */
} crnn_step_numbers;

typedef struct {
    float rate; /* lr * sqrt(1 - beta2^t) / (1 - beta1^t), computed in double by the caller */
    float beta1, beta2, epsilon;
    float clip;  /* global norm; 0: off */
    float decay; /* lr * weight_decay; 0: off */
} crnn_adam;

/* What changes from step to step, uploaded before it. */
typedef struct {
    crnn_adam adam;
    uint64_t step; /* numbers the masks of dropout */
} crnn_step_inputs;

/* Steps that wait their turn in device memory, so that the host need not come between them, and what became of those that are done. */
typedef struct {
    int64_t *begun;             /* [1] steps that were begun; zeroed by the caller before each queue */
    crnn_step_inputs *inputs;   /* [n] */
    int64_t *starts;            /* [n,B] */
    crnn_step_numbers *numbers; /* [n] the present step's; from 1 on those of the steps before it, in order */
} crnn_step_queue;

/* Lists of ops that are the same each time. */
typedef enum {
    CRNN_RECORD_TRAIN,
    CRNN_RECORD_TRAIN_SEVERAL,
    CRNN_RECORD_TRAIN_IDS,
    CRNN_RECORD_EVALUATE,
    CRNN_RECORD_FORWARD,
    CRNN_RECORD_WRITE,
    CRNN_RECORDS
} crnn_record;

enum { CRNN_MARKS = 512 };

/* The input of a recurrent layer: one of the two. */
typedef struct {
    const float *x;          /* [T,B,I], or NULL */
    const uint16_t *tokens;  /* [T,B], each < V */
    const float *embeddings; /* [V,I] */
} crnn_gru_input;

/* The dense layer at a model's end, its loss and their gradients: what head() reads and writes. */
typedef struct {
    crnn_step_numbers *numbers;
    float *dx;         /* [n,H] */
    float *dW;         /* [H,V] */
    float *db;         /* [V] */
    void *scratch;     /* head_bytes() */
    const float *x;    /* [n,H] */
    const float *W;    /* [H,V] */
    const float *b;    /* [V] */
    const uint16_t *y; /* [n] */
    int64_t n;
    int32_t H, V;
    float scale; /* positive */
} crnn_head;

/* A model that writes: all of crnn_model_sizes that matter, and how many texts at once. */
typedef struct {
    int32_t V, E, H, L, count;
} crnn_writer_shape;

/* Where a writer goes on from and what it leaves, in device memory: after n characters all of it is what n times
 * probabilities, pick and a forward pass would have left, but for the order of sums. */
typedef struct {
    uint16_t *written; /* [n,count] out */
    uint16_t *last;    /* [count] out: the last of them */
    float *state;      /* [L,count,H] */
    float *logits;     /* [count,V] */
    uint64_t *drawn;   /* [1] as in pick */
} crnn_writing;

typedef struct {
    const char *name; /* "cpu", "cuda" */

    void (*close)(crnn_backend *be);
    void (*info)(crnn_backend *be, crnn_device_info *info);
    /* Waits for everything queued; reports the first failure since the last sync. */
    crnn_status (*sync)(crnn_backend *be, crnn_error *err);

    /* Device memory, 64-byte aligned and zeroed; NULL latches a memory error. */
    void *(*alloc)(crnn_backend *be, size_t bytes);
    void (*free)(crnn_backend *be, void *device);
    void (*upload)(crnn_backend *be, void *device, const void *host, size_t bytes);
    void (*download)(crnn_backend *be, void *host, const void *device, size_t bytes); /* synchronous */
    void (*copy)(crnn_backend *be, void *to, const void *from, size_t bytes);
    void (*zero)(crnn_backend *be, void *device, size_t bytes);
    int64_t (*memory)(crnn_backend *be); /* bytes now allocated, workspaces included */

    /* Begins a list of ops without alloc, free, upload, download or sync, the same at every call but for what device memory holds. True: issue
     * them, then call record_end; a backend may keep them. False: it has issued those it kept, skip them. A free makes it forget.
     * record_end: false where keeping them failed and none of them ran: issue them once more. */
    bool (*record)(crnn_backend *be, crnn_record list);
    bool (*record_end)(crnn_backend *be, crnn_record list);

    /* Begins step k = *begun of a queue: inputs = queue.inputs[k], starts = queue.starts[k]; queue.numbers[k] = queue.numbers[0] where k > 0,
     * and the present halted = k > 0 and that step was not finite; *begun = k + 1. */
    void (*next_step)(crnn_backend *be, crnn_step_inputs *inputs, int64_t *starts /* [B] */,
                      const crnn_step_queue *queue, int32_t B);

    /* x[t,b] = ids[starts[b] + t], y[t,b] = ids[starts[b] + t + 1]. ids: width 1 or 2 bytes. */
    void (*gather)(crnn_backend *be, uint16_t *x /* [T,B] */, uint16_t *y /* [T,B] */, const void *ids, int32_t width,
                   const int64_t *starts /* [B] */, int32_t T, int32_t B);

    /* y[i] = table[tokens[i]] */
    void (*embed)(crnn_backend *be, float *y /* [n,E] */, const uint16_t *tokens /* [n] */,
                  const float *table /* [V,E] */, int64_t n, int32_t V, int32_t E);
    /* dtable[v] = sum of dy[i] over i with tokens[i] = v, in order of i. Overwrites dtable. */
    void (*embed_backward)(crnn_backend *be, float *dtable /* [V,E] */, const float *dy /* [n,E] */,
                           const uint16_t *tokens /* [n] */, int64_t n, int32_t V, int32_t E);

    /* Settles in which way the layers of a model [count] will be computed, and says so; once, before the first gru_new. */
    void (*gru_choose)(crnn_backend *be, crnn_rnn_choice *choice, const crnn_gru_shape *shapes, int32_t count);

    /* One GRU layer, Keras reset_after (docs/MODEL.md):
     *   z = s(x Kz + b0z + h Rz + b1z)   r = s(x Kr + b0r + h Rr + b1r)
     *   n = tanh(x Kh + b0h + r * (h Rh + b1h))   h' = z * h + (1 - z) * n
     * Its weights are one block of gru_params() floats in the private layout of the backend. Backward uses up what the last forward of a
     * training layer kept, so there is one for each; every pointer of that call must still hold what it held. */
    crnn_gru *(*gru_new)(crnn_backend *be, const crnn_gru_shape *shape);
    void (*gru_free)(crnn_gru *g);
    int64_t (*gru_params)(const crnn_gru *g); /* floats of the private block, >= 3H(I + H + 2) */
    void (*gru_pack)(crnn_gru *g, float *w /* device */, const float *kernel /* [I,3H] host */,
                     const float *recurrent /* [H,3H] host */, const float *bias /* [2,3H] host */);
    void (*gru_unpack)(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w); /* synchronous */
    void (*gru_forward)(crnn_gru *g, float *hs /* [T,B,H] */, float *h_last /* [B,H], may be h_first */,
                        const crnn_gru_input *in, const float *h_first /* [B,H] */, const float *w);
    /* din: dx [T,B,I] where the input was x (NULL: not wanted), dembeddings [V,I] where it was tokens; dw in the layout of w. All overwritten.
     * No gradient flows in through h_last or out through h_first (truncated back-propagation). */
    void (*gru_backward)(crnn_gru *g, float *din, float *dw, const float *dhs /* [T,B,H] */, const float *hs,
                         const crnn_gru_input *in, const float *h_first, const float *w);

    /* Floating-point operations that one forward or backward call executes in its matrix products, for `bench`. */
    double (*gru_flop)(const crnn_gru *g, bool backward);

    /* y[i] = x[i] keep(i) / (1 - p), with keep(i) = u01(philox(seed, stream, i / 4)[i % 4]) >= p and the stream DROPOUT, step * 256 + layer of
     * host/base/rng.h. Its own gradient. y may be x. */
    void (*dropout)(crnn_backend *be, float *y, const float *x, int64_t n, float p, uint64_t seed,
                    const crnn_step_inputs *inputs, int32_t layer);

    /* y = x W + b */
    void (*linear)(crnn_backend *be, float *y /* [n,V] */, const float *x /* [n,H] */, const float *W /* [H,V] */,
                   const float *b /* [V] */, int64_t n, int32_t H, int32_t V);
    /* dx = dy W', dW = x' dy, db = column sums of dy. Overwrites all three. */
    void (*linear_backward)(crnn_backend *be, float *dx /* [n,H] */, float *dW /* [H,V] */, float *db /* [V] */,
                            const float *dy /* [n,V] */, const float *x /* [n,H] */, const float *W /* [H,V] */,
                            int64_t n, int32_t H, int32_t V);

    /* n independent rows; a row with y[i] = CRNN_NO_ID does not count: loss 0, gradient 0.
     * p = softmax(z[i]); loss_sum += -log p[y[i]]; hits += argmax z[i] == y[i]; z[i] <- (p - onehot(y[i])) * scale, where
     * scale 0 leaves z as it was. loss_sum, positions, hits and finite of numbers are overwritten. */
    void (*softmax_xent)(crnn_backend *be, crnn_step_numbers *numbers, float *z /* [n,V] */,
                         const uint16_t *y /* [n] */, int64_t n, int32_t V, float scale);

    /* linear() to logits, softmax_xent() of these by y and scale, linear_backward() of what they became; all outputs are overwritten. A backend
     * may do so without ever having all logits in memory. */
    void (*head)(crnn_backend *be, const crnn_head *head);
    /* Bytes of device memory that head() works in: n V floats or more. */
    size_t (*head_bytes)(crnn_backend *be, int64_t n, int32_t H, int32_t V);

    /* numbers->norm_squared = sum of g^2 (in double); finite becomes 0 where that is no finite float: the squares that go into v would not be
     * either, and v would stay infinite without any loss showing it. Where the step is halted, it becomes 0 too. */
    void (*norm)(crnn_backend *be, crnn_step_numbers *numbers, const float *g, int64_t n);
    /* Where numbers->finite: g' = g * min(1, clip / norm); m, v; w -= rate * m / (sqrt(v) + epsilon) + decay * w. */
    void (*adam)(crnn_backend *be, float *w, float *m, float *v, const float *g, int64_t n,
                 const crnn_step_inputs *inputs, const crnn_step_numbers *numbers);
    /* to[i] = from[i], unless numbers are given and not finite: a step that was not taken carries nothing. */
    void (*carry)(crnn_backend *be, float *to, const float *from, int64_t n, const crnn_step_numbers *numbers);

    /* n independent rows. p = softmax(z / temperature) after top-k, then top-p (Holtzman et al., ICLR 2020) over what top-k left, then min-p,
     * each row summing to 1. Among equals the lower id stays. Temperature 0: all on the most likely character. */
    void (*probabilities)(crnn_backend *be, float *p /* [n,V] */, const float *z /* [n,V] */, int64_t n, int32_t V,
                          const crnn_sample_options *options);
    /* ids[k] = the character whose part of [0,1) holds u, by running sums of p[k] in double in id order; never one of probability 0.
     * u = u01(philox(seed, stream SAMPLE k, *drawn)[0]). written[*drawn % ring, k] = ids[k]; then *drawn += 1. */
    void (*pick)(crnn_backend *be, uint16_t *ids /* [n] */, uint16_t *written /* [ring,n] */, uint64_t *drawn /* [1] */,
                 const float *p /* [n,V] */, int64_t n, int32_t V, int32_t ring, uint64_t seed);

    /* A writer of these weights, all of a model in canonical order (docs/MODEL.md). NULL without a latched failure: this device has none for the shape,
     * and a text is written op by op. NULL itself on a backend that has none at all. */
    crnn_writer *(*writer_new)(crnn_backend *be, const crnn_writer_shape *shape, const float *weights /* host */);
    void (*writer_free)(crnn_writer *w);
    /* n >= 1 characters of each text. Not within a list. */
    void (*write)(crnn_writer *w, const crnn_writing *writing, int32_t n, const crnn_sample_options *options);

    /* For `bench`. Flop a second of one large product in the precision of the backend, and bytes a second that a copy of a large block reads
     * and writes; the best of a few. */
    double (*peak_rate)(crnn_backend *be);
    double (*copy_rate)(crnn_backend *be);
    /* Keeps the time at which the device gets here, as mark i of CRNN_MARKS; seconds between two of them, when both have passed. Not within
     * a recorded list. */
    void (*mark)(crnn_backend *be, int32_t i);
    double (*between)(crnn_backend *be, int32_t i, int32_t j);
} crnn_backend_ops;

/* Every backend begins with its table. */
struct crnn_backend {
    const crnn_backend_ops *ops;
};

/* head() and head_bytes() by the ops that they are made of. */
void crnn_head_by_ops(crnn_backend *be, const crnn_head *head);
size_t crnn_head_by_ops_bytes(crnn_backend *be, int64_t n, int32_t H, int32_t V);

/* Opens the device that config asks for. note (size bytes, may be NULL) says which and why when it was left to us.
 * CRNN_ERR_DEVICE where it is not usable. */
crnn_backend *crnn_backend_open(const crnn_device_config *config, char *note, int size, crnn_error *err);
/* Each backend's own entry; NULL config members were resolved. */
crnn_backend *crnn_cpu_open(const crnn_device_config *config, crnn_error *err);
void crnn_cpu_describe(crnn_device_info *info, int32_t threads);
/* CRNN_ERR_DEVICE where no GPU is usable as config wants it. */
crnn_backend *crnn_cuda_open(const crnn_device_config *config, crnn_error *err);
/* Opens and closes it; info->why says what is missing where that fails. Returns how it went. */
crnn_status crnn_cuda_describe(crnn_device_info *info, const crnn_device_config *config);

#endif
