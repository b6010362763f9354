/* gru_persist.h - the recurrent part of a GRU layer as two kernels that stay on the GPU for all T time steps.
 *
 * Each block (one on a multiprocessor) holds the weights of its units in registers and shared memory for a whole pass and multiplies on
 * tensor cores; the blocks that share batch rows hand each other h, or the gates' gradients on the way back, through the second-level cache
 * after every time step. Flags order that; blocks of different batch rows never wait for one another. In clusters (compute capability 9.0)
 * each block reads a share of that and hands it to its neighbours. Or there are no flags, and each word tells whether it has come. What is
 * carried from step to step stays in float32 with the thread that owns it; only what is multiplied has 16 bits.
 *
 * A plan says how a pass of one shape is shared out on one GPU, or that it does not fit. A workspace belongs to one plan: device memory of
 * crnn_persist_bytes(plan), zeroed once; the launches of one workspace follow each other on one stream. Launchers queue and return the
 * status of the launch; every pointer is device memory that lives until the stream has passed. They may be captured: no launch
 * depends on a number that the host keeps. One order of summation, no float atomics: the same launch gives the same bits.
 */
#ifndef CRNN_KERNELS_CUDA_GRU_PERSIST_H
#define CRNN_KERNELS_CUDA_GRU_PERSIST_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CRNN_PERSIST_BF16, /* 8-bit significand */
    CRNN_PERSIST_FP16, /* 11 bits, as tf32 has; |w| and |h| must stay below 255, the gradient's range is moved by `scale` */
    CRNN_PERSIST_SPLIT, /* 22 bits: two fp16 numbers for each value and three products, for float32 accuracy; the same ranges */
    CRNN_PERSIST_PRECISIONS
} crnn_persist_precision;

typedef enum { CRNN_PERSIST_FORWARD, CRNN_PERSIST_BACKWARD } crnn_persist_direction;

/* How blocks see what others have published: by flags; a share of it for a whole cluster; or each word by itself, without flags. */
typedef enum { CRNN_PERSIST_FLAGS, CRNN_PERSIST_CLUSTER, CRNN_PERSIST_WORDS } crnn_persist_exchange;

/* In the fp16 precisions weights and states are multiplied by two so often, and their fp16 copies below hold them so. */
enum { CRNN_PERSIST_DOUBLINGS = 8 };

/* What a plan must know of a GPU. */
typedef struct {
    int32_t sms;           /* multiprocessors */
    int32_t shared;        /* bytes of shared memory that one block may have (opt-in) */
    int32_t compute_major; /* 8 and newer */
    int32_t clusters[2];   /* of 2 and of 4 such blocks: how many it holds at a time */
} crnn_persist_gpu;

/* What GPU `device` is; errors are those of the runtime's calls. */
cudaError_t crnn_persist_gpu_of(crnn_persist_gpu *gpu, int device);

/* How one pass is shared out: groups x slices blocks of 256 threads. A group has 16 * chunks batch rows, which it works through 16 at a
 * time; a slice has 16 * tiles units. */
typedef struct {
    crnn_persist_direction direction;
    crnn_persist_precision precision;
    crnn_persist_exchange exchange;
    int32_t B, H;
    int32_t groups, slices, tiles, chunks;
    int32_t
        steps; /* of 16 numbers that each warp multiplies; `resident` of them with weights in registers, the rest in shared memory */
    int32_t resident;
    int32_t slots;   /* of what is exchanged: 2; without flags 4 */
    int32_t cluster; /* blocks, neighbouring slices of a group, that read what is exchanged together; 1: none do */
    int32_t buffers; /* in a cluster: of what is exchanged in a step, how much a block holds: 1 or 2 times */
    int32_t shared;  /* bytes of dynamic shared memory */
    double estimate; /* seconds a time step, for choosing among plans; not a promise */
} crnn_persist_plan;

/* What a plan shall be like; 0: free to choose. */
typedef struct {
    int32_t groups, tiles; /* only plans with these */
    int32_t cluster;       /* 4 or 2: clusters of so many where they fit, else of fewer; 0: none */
    bool words;            /* without flags, where that fits and is estimated to be no slower */
} crnn_persist_wish;

/* The best plan by estimate; false: H does not fit this GPU. wish NULL: none. */
bool crnn_persist_plan_for(crnn_persist_plan *plan, crnn_persist_direction direction, crnn_persist_precision precision,
                           int32_t B, int32_t H, const crnn_persist_gpu *gpu, const crnn_persist_wish *wish);
size_t crnn_persist_bytes(const crnn_persist_plan *plan);

/* Where in its workspace a plan's kernel reads R from. */
typedef struct {
    void *to; /* NULL: no such pass */
    int32_t tiles, steps;
} crnn_persist_copy;
crnn_persist_copy crnn_persist_copy_of(const crnn_persist_plan *plan, void *workspace);

/* One R and what is kept of it, in one precision. */
typedef struct {
    const float *R; /* [H,ldr], columns in gate order n, z, r */
    int64_t ldr;
    int32_t H;
    crnn_persist_copy forward, backward;
    uint16_t
        *rows; /* [H,3H], in split precision [2,H,3H] high and low parts: as R itself, for other products; NULL: none */
} crnn_persist_copies;

/* Once for each value of the weights, unless crnn_launch_adam writes the copies with them. What a copy has beyond H is not written: it stays 0. */
cudaError_t crnn_persist_pack(const crnn_persist_copies *copies, crnn_persist_precision precision, cudaStream_t stream);

/* z = s(xz + h Rz + b1z), r = s(xr + h Rr + b1r), n = tanh(xn + r n_h) with n_h = h Rn + b1n, h' = z h + (1 - z) n */
typedef struct {
    void *workspace;
    float *hs;     /* [T,B,H] */
    float *h_last; /* [B,H], may be h_first; NULL: not wanted */
    uint16_t *
        h16; /* [T+1,B,H] h_first and hs in 16 bits, in split precision [2,T+1,B,H] high and low parts; NULL: not wanted */
    float *keep; /* [T*B rows, ldk apart] n_h, z, r, n, H floats each; NULL: not wanted */
    const float *
        xp; /* rows of z, r, n, ldx apart: of each position [T,B], or of each character where there are tokens. May lie in keep. */
    const uint16_t *tokens; /* [T,B] or NULL */
    const float *h_first;   /* [B,H] */
    const float *b1;        /* [3H] n, z, r */
    int64_t ldk, ldx;
    int32_t T;
    uint32_t patience; /* polls until a block gives up; 0: some seconds' worth */
} crnn_persist_forward;
cudaError_t crnn_persist_launch_forward(const crnn_persist_plan *plan, const crnn_persist_forward *pass,
                                        cudaStream_t stream);

/* The reverse of it, from T-1 to 0. d may lie in keep, if each of its rows begins where one of a later time step does. */
typedef struct {
    void *workspace;
    const float *keep; /* n_h, z, r, n as the forward pass left them */
    uint16_t *
        d; /* [T*B rows, ldd apart] out: dn_h, dz, dr, dn, H items each, doubled `doublings` times; in split precision the low parts
                             behind the high ones, 8H items in all */
    const float *dhs;     /* [T,B,H] gradient at each h, without what comes from later steps */
    const float *hs;      /* [T,B,H] */
    const float *h_first; /* [B,H] */
    float *
        dh; /* [B,H] in: the gradient at the last h from later steps; out: what of that at h_first came past z, without what comes through
                  R from d of step 0; NULL: nothing flows in, and what flows out is not wanted */
    int64_t ldk, ldd;
    int32_t T;
    int32_t doublings; /* of the gradients, as they are exchanged and left in d; crnn_persist_doublings() */
    uint32_t patience;
} crnn_persist_backward;
cudaError_t crnn_persist_launch_backward(const crnn_persist_plan *plan, const crnn_persist_backward *pass,
                                         cudaStream_t stream);

/* For gradients of a loss that is the mean over `positions`: so often doubled, they are near 16 times those of one position alone, which
 * leaves a factor of 4000 up to fp16's largest number and 18 bits below 1. 0 for bf16. A gradient beyond the range becomes infinite, never
 * wrong: so does the norm of all gradients with it, and the step is not taken. */
int32_t crnn_persist_doublings(crnn_persist_precision precision, int64_t positions);

/* Where in device memory a launch says that it gave up, as blocks it waited for never came: 0 all is well. Its results are then
 * meaningless, and so is each later one, until the workspace has been zeroed (and packed) again. */
const uint32_t *crnn_persist_status(const void *workspace);

#ifdef __cplusplus
}
#endif
#endif
