/* cuda.h - what the files of the CUDA backend share: the backend itself, its latch, its memory and its products.
 *
 * One device, one stream: ops queue their work there in order. Every op begins with crnn_cuda_begin, which refuses after a failure. Calls of
 * the runtime and of the libraries go through crnn_cuda_ok, crnn_cublas_ok and crnn_cudnn_ok, which latch what fails. The device reports a
 * fault when something waits for it, so the op named then is the last one queued.
 */
#ifndef CRNN_KERNELS_CUDA_CUDA_H
#define CRNN_KERNELS_CUDA_CUDA_H

#include "kernels/backend.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/libraries.h"
#include <cuda_runtime_api.h>

typedef struct crnn_cuda_block crnn_cuda_block;
typedef struct crnn_cuda_product crnn_cuda_product;
typedef struct crnn_gru_way crnn_gru_way;

/* A word in device memory that a kernel sets when it gives up, and the sentence for it. */
typedef struct {
    const uint32_t *word;
    const char *gave_up;
} crnn_cuda_watched;
enum { CRNN_MAX_WATCHED = 256, CRNN_STAGING_BYTES = 1 << 18, CRNN_LONGEST_SUM = 2048 };

/* A list of ops on its way to one graph: issued once as it is, so that libraries are warm, then captured, then replayed. */
typedef struct {
    enum { CRNN_LIST_COLD, CRNN_LIST_WARM, CRNN_LIST_READY, CRNN_LIST_UNFIT } state;
    cudaGraphExec_t graph;
} crnn_cuda_list;

typedef struct {
    crnn_backend base;
    crnn_device_config config; /* whose rnn_algo is the name of way, or "auto" before the choice */
    const crnn_gru_way *way;   /* to compute recurrent layers */
    bool writes; /* texts by the kernel that stays for many characters: who names another way wants its ops */
    crnn_gpu_libraries lib;
    cudaStream_t stream;
    cublasLtHandle_t lt;
    cudnnHandle_t dnn;
    int32_t compute_major;
    const char *op;     /* the op now running, for the message of a failure */
    crnn_error failure; /* the first since the last sync; status CRNN_OK: none */

    crnn_cuda_block *blocks; /* all device memory, with its sizes */
    int64_t memory;          /* bytes of them */
    void *workspace;         /* scratch of the libraries; ops run one after the other, so one serves all */
    size_t workspace_bytes;
    crnn_gpu_partial *partials;
    char *staging; /* pinned host memory that uploads pass through, so that their source may change at once */
    size_t staged; /* bytes of it that the stream may still read */
    crnn_cuda_watched watched[CRNN_MAX_WATCHED];
    int watched_count;
    uint32_t *said; /* [CRNN_MAX_WATCHED] pinned host memory that they are read into */

    int64_t gate_bytes; /* that one layer of our own may keep for its backward pass; 0: an eighth of the GPU's memory */

    int64_t longest_sum; /* in split precision, of one product on tensor cores; a multiple of 8; 0: CRNN_LONGEST_SUM */

    crnn_cuda_product *products; /* made at first use, kept */
    crnn_gru *layers;            /* all layers, so that a write to weights makes what they prepared stale */
    crnn_cuda_list lists[CRNN_RECORDS];
    bool capturing;
    cudaEvent_t marks[CRNN_MARKS]; /* made at first use */
} crnn_cuda;

static inline crnn_cuda *crnn_cuda_of(crnn_backend *be)
{
    return (crnn_cuda *)be;
}

/* False when a failure is latched: the op does nothing. */
bool crnn_cuda_begin(crnn_cuda *cuda, const char *op);
/* Latches a failure of the running op. */
void crnn_cuda_failed(crnn_cuda *cuda, crnn_status status, const char *what);
/* Whether a call succeeded; else its failure is latched. */
bool crnn_cuda_ok(crnn_cuda *cuda, cudaError_t error);
bool crnn_cublas_ok(crnn_cuda *cuda, cublasStatus_t status);
bool crnn_cudnn_ok(crnn_cuda *cuda, cudnnStatus_t status);

/* Waits for the stream, whatever has failed before. */
void crnn_cuda_wait(crnn_cuda *cuda);
crnn_status crnn_cuda_sync(crnn_backend *be, crnn_error *err);
void crnn_cuda_close(crnn_backend *be);
/* ops.c */
extern const crnn_backend_ops crnn_cuda_ops;
/* dtable[v] (+)= sum of dy[i] over i with tokens[i] = v. Within a list only if the workspace has crnn_sum_by_token_scratch(n, V). */
void crnn_cuda_sum_by_token(crnn_cuda *cuda, float *dtable /* [V,E] */, bool add, crnn_matrix dy /* [n,E] */,
                            const uint16_t *tokens /* [n] */, int64_t n, int32_t V, int32_t E);

/* memory.c. Device memory: zeroed, 256-byte aligned, counted. NULL latches. free takes NULL. */
void *crnn_cuda_alloc(crnn_backend *be, size_t bytes);
void crnn_cuda_free(crnn_backend *be, void *device);
/* rows * columns items, checked. */
void *crnn_cuda_alloc_items(crnn_cuda *cuda, int64_t rows, int64_t columns, size_t item);
/* Makes the workspace at least so large; not within a list. */
void crnn_cuda_need_workspace(crnn_cuda *cuda, size_t bytes);
void crnn_cuda_upload(crnn_backend *be, void *device, const void *host, size_t bytes);
void crnn_cuda_download(crnn_backend *be, void *host, const void *device, size_t bytes);
void crnn_cuda_copy(crnn_backend *be, void *to, const void *from, size_t bytes);
void crnn_cuda_zero(crnn_backend *be, void *device, size_t bytes);
int64_t crnn_cuda_memory(crnn_backend *be);
/* From now on, until the memory that word lies in is freed, sync reads it: other than 0 is a fault, told by the sentence gave_up. */
void crnn_cuda_watch(crnn_cuda *cuda, const uint32_t *word, const char *gave_up);
/* Those in memory that is about to be freed; the others keep their order. */
void crnn_cuda_forget_watched(crnn_cuda *cuda, const void *device, size_t bytes);
/* [bytes] at device were written: what layers prepared from weights there is stale. */
void crnn_cuda_touched(crnn_cuda *cuda, const void *device, size_t bytes);
/* The same for one layer. */
void crnn_cuda_stale(crnn_gru *g, const void *device, size_t bytes);
/* lists.c */
bool crnn_cuda_record(crnn_backend *be, crnn_record list);
bool crnn_cuda_record_end(crnn_backend *be, crnn_record list);
/* Forgets every recorded list: they hold addresses, and what layers had prepared. */
void crnn_cuda_forget_lists(crnn_cuda *cuda);

/* product.c: row-major C [M,N] = op(A) [M,K] op(B) [K,N] (+ C, or + bias [N] on every row) by cuBLASLt, in the precision of the backend:
 * fp32 exact; tf32 and bf16 round float factors to tf32. Factors of 16 bits are taken as they are. Sums are float32. */
typedef struct {
    int64_t M, N, K;
    int64_t lda, ldb, ldc; /* items from row to row as stored */
    bool transpose_a, transpose_b;
    crnn_number_format format;      /* of A and B; not SPLIT, whose parts are matrices of FP16 */
    int32_t halvings;               /* the product is divided by 2^halvings */
    bool accumulate;                /* C is added to */
    int32_t batch;                  /* so many products at once; 0: one */
    int64_t step_a, step_b, step_c; /* items from the matrices of one to those of the next */
} crnn_cuda_product_shape;
void crnn_cuda_multiply(crnn_cuda *cuda, const crnn_cuda_product_shape *shape, float *C, const void *A, const void *B,
                        const float *bias /* [N] or NULL */);
void crnn_cuda_products_free(crnn_cuda *cuda);
double crnn_cuda_peak_rate(crnn_backend *be);

/* clock.c */
void crnn_cuda_mark(crnn_backend *be, int32_t i);
double crnn_cuda_between(crnn_backend *be, int32_t i, int32_t j);
void crnn_cuda_marks_free(crnn_cuda *cuda);
double crnn_cuda_copy_rate(crnn_backend *be);

/* head.c */
void crnn_cuda_head(crnn_backend *be, const crnn_head *head);
size_t crnn_cuda_head_bytes(crnn_backend *be, int64_t n, int32_t H, int32_t V);

/* gru.c: the ways to compute a recurrent layer, each behind this table; rnn_algo chooses. */
struct crnn_gru_way {
    crnn_gru *(*make)(crnn_cuda *cuda, const crnn_gru_shape *shape); /* NULL latches */
    void (*free)(crnn_gru *g);
    int64_t (*params)(const crnn_gru *g);
    void (*pack)(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias);
    void (*unpack)(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w);
    /* Whatever can be computed once for each value of the weights; called before forward where they may have changed. */
    void (*prepare)(crnn_gru *g, const crnn_gru_input *in, const float *w);
    /* The copies of R of w that the way keeps beside what it prepares: packed where they are stale, written by every update of a training
     * layer. NULL: it keeps none. */
    crnn_persist_copies (*copies)(const crnn_gru *g, const float *w);
    void (*forward)(crnn_gru *g, float *hs, const crnn_gru_input *in, const float *h_first, const float *w);
    void (*backward)(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs, const crnn_gru_input *in,
                     const float *h_first, const float *w);
    double (*flop)(const crnn_gru *g, bool backward);
};

/* What every layer begins with. */
struct crnn_gru {
    const crnn_gru_way *way;
    crnn_cuda *cuda;
    crnn_gru *next;
    crnn_gru_shape s;
    const float *seen_w,
        *seen_embeddings; /* what a layer that only reads prepared from, and any layer its copies; NULL: stale */
    const float *last_w;  /* of the last forward pass */
    bool kept;            /* an update of last_w writes the copies */
};
extern const crnn_gru_way crnn_gru_cudnn, crnn_gru_loop, crnn_gru_persist, crnn_gru_persist_cluster,
    crnn_gru_persist_words;
/* All of them by the names of rnn_algo, cuDNN's standard way first. */
typedef struct {
    const char *name;
    const crnn_gru_way *way;
} crnn_gru_named_way;
enum { CRNN_GRU_WAYS = 8 };
extern const crnn_gru_named_way crnn_gru_ways[CRNN_GRU_WAYS];
/* The way of that name; for "auto", or without a name, cuDNN's standard way until there is a choice. NULL with CRNN_ERR_ARGUMENT and the list of
 * names where there is no such way. */
const crnn_gru_named_way *crnn_cuda_way(const char *name, crnn_error *err);
/* Layers that are made from now on are computed so. */
void crnn_cuda_take_way(crnn_cuda *cuda, const crnn_gru_named_way *way);
/* False, with a latched error, where states and weights alone would not fit into the GPU, before anything is multiplied in integers. */
bool crnn_cuda_could_fit(crnn_cuda *cuda, const crnn_gru_shape *s);
/* choose.c. */
void crnn_cuda_gru_choose(crnn_backend *be, crnn_rnn_choice *choice, const crnn_gru_shape *shapes, int32_t count);
/* What persistent kernels multiply in. */
static inline crnn_persist_precision crnn_persist_precision_of(crnn_precision precision)
{
    return precision == CRNN_FP32 ? CRNN_PERSIST_SPLIT : precision == CRNN_TF32 ? CRNN_PERSIST_FP16 : CRNN_PERSIST_BF16;
}
/* The gru ops of the table. */
crnn_gru *crnn_cuda_gru_new(crnn_backend *be, const crnn_gru_shape *shape);
/* Into update->copies those that an update of w [n] must write, of layers whose R lies at update->from or behind it, as many as there is room
 * for; update->to ends before the first that is left out. */
void crnn_cuda_copies(crnn_cuda *cuda, crnn_gpu_update *update, int64_t n);
/* An update has written w [n]: what layers prepared from it is stale, but for copies that the update writes. */
void crnn_cuda_updated(crnn_cuda *cuda, const float *w, int64_t n);
void crnn_cuda_gru_free(crnn_gru *g);
int64_t crnn_cuda_gru_params(const crnn_gru *g);
void crnn_cuda_gru_pack(crnn_gru *g, float *w, const float *kernel, const float *recurrent, const float *bias);
void crnn_cuda_gru_unpack(crnn_gru *g, float *kernel, float *recurrent, float *bias, const float *w);
void crnn_cuda_gru_forward(crnn_gru *g, float *hs, float *h_last, const crnn_gru_input *in, const float *h_first,
                           const float *w);
void crnn_cuda_gru_backward(crnn_gru *g, float *din, float *dw, const float *dhs, const float *hs,
                            const crnn_gru_input *in, const float *h_first, const float *w);
double crnn_cuda_gru_flop(const crnn_gru *g, bool backward);

/* writer.c */
crnn_writer *crnn_cuda_writer_new(crnn_backend *be, const crnn_writer_shape *shape, const float *weights);
void crnn_cuda_writer_free(crnn_writer *w);
void crnn_cuda_write(crnn_writer *w, const crnn_writing *writing, int32_t n, const crnn_sample_options *options);

#endif
