/* write.h - many characters of each of several texts in one launch: a kernel that stays on the GPU, draws a character, runs it through the model
 * and goes on.
 *
 * Each block (one on a multiprocessor) holds the weights of some units of every layer and of some characters' logits. For each character
 * the blocks that share a text hand each other the new states, one exchange a layer, and then the logits; from those every block makes the
 * same draw by itself, so that none need be told what was drawn. While the logits are on their way each block multiplies what the next
 * states need and the draw does not change. All sums are float32 in one order that depends on H alone: a text is the same bits
 * whatever is written beside it and however the work is shared out.
 *
 * A plan says how that is shared out on one GPU, or that it does not fit. A workspace belongs to one plan: device memory of
 * crnn_write_bytes(plan), zeroed once and packed once; its launches follow each other on one stream.
 */
#ifndef CRNN_KERNELS_CUDA_WRITE_H
#define CRNN_KERNELS_CUDA_WRITE_H

#include "kernels/backend.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a plan must know of a GPU. */
typedef struct {
    int32_t sms;    /* multiprocessors */
    int32_t shared; /* bytes of shared memory that one block may have (opt-in) */
} crnn_write_gpu;

/* groups x slices blocks of 256 threads. A group has `chunks` chunks of `texts` texts each, the last ones perhaps fewer; a slice has 8 * tiles
 * units of each layer, and every slices'th four of the characters. */
typedef struct {
    crnn_writer_shape shape;
    int32_t groups, slices;
    int32_t per_group;     /* texts of a group, at most */
    int32_t texts, chunks; /* texts: 1, 2, 4 or 8 */
    int32_t tiles;
    int32_t quads; /* of four numbers of h that each thread multiplies */
    int32_t
        pieces; /* of the gates' weights that are not read from the second-level cache: one in registers, the rest in shared memory */
    bool near_letters, near_table; /* the logits' weights, the table of characters are in shared memory */
    int32_t shared;                /* bytes of it */
    double estimate;               /* clocks a character of each text */
} crnn_write_plan;

/* The best plan by a rough estimate; false: no block can have its part, or a group would have more texts than are worth it. tiles 0: free
 * to choose; otherwise only such plans count. */
bool crnn_write_plan_for(crnn_write_plan *plan, const crnn_writer_shape *shape, const crnn_write_gpu *gpu,
                         int32_t tiles);
size_t crnn_write_bytes(const crnn_write_plan *plan);

/* Weights into the workspace in the order of the kernel. weights: all of them in canonical order (docs/MODEL.md); table: rows x Kx + b0 of
 * each character in the first layer [V,3H], gates z, r, h. Both device memory. */
cudaError_t crnn_write_pack(const crnn_write_plan *plan, void *workspace, const float *weights, const float *table,
                            cudaStream_t stream);

typedef struct {
    void *workspace;
    crnn_writing io;
    crnn_sample_options options;
    int32_t n;         /* characters of each text, at least 1 */
    uint32_t steps;    /* characters of all launches of the workspace before this one, modulo 2^32 */
    uint32_t patience; /* polls until a block gives up; 0: some seconds' worth */
} crnn_write_pass;
cudaError_t crnn_write_launch(const crnn_write_plan *plan, const crnn_write_pass *pass, cudaStream_t stream);

/* Where in device memory a launch says that it gave up, as blocks it waited for never came: 0 all is well. What it wrote is then
 * meaningless, and so is what later ones write. */
const uint32_t *crnn_write_status(const void *workspace);

#ifdef __cplusplus
}
#endif
#endif
