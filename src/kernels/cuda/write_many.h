/* write_many.h - characters of many texts in one launch, as write.h has them of few: a model of one layer, its products on tensor cores.
 *
 * The blocks of a group share up to 16 * chunks texts as those of gru_persist.h share batch rows: each holds the weights of its units, and the
 * states pass from block to block in 16 bits, with flags, while what is carried on stays in float32 with its owner. Some blocks hold the
 * weights of 16 characters' logits besides. They multiply these as soon as new states are there and publish the logits; all blocks multiply
 * the states with R while the logits are on their way, and make the same draws by themselves.
 *
 * What is multiplied has the format of the precision, so a text differs from the one that write.h writes by rounding; it does not depend on
 * the texts beside it, but for the plan that their number asks for. Weights must stay below 255, as in gru_persist.h.
 */
#ifndef CRNN_KERNELS_CUDA_WRITE_MANY_H
#define CRNN_KERNELS_CUDA_WRITE_MANY_H

#include "kernels/cuda/gru_persist.h"
#include "kernels/cuda/write.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    crnn_writer_shape shape;
    crnn_persist_plan pass;        /* how h R is shared out; shared: of this kernel */
    bool near_letters, near_table; /* the logits' weights, the table of characters are in shared memory */
    double estimate;               /* clocks a character of each text */
} crnn_write_many_plan;

/* The best plan by estimate; false: more than one layer, or no block can have its part. precision: FP16 or SPLIT. wish NULL: none. */
bool crnn_write_many_plan_for(crnn_write_many_plan *plan, const crnn_writer_shape *shape,
                              crnn_persist_precision precision, const crnn_persist_gpu *gpu,
                              const crnn_persist_wish *wish);
size_t crnn_write_many_bytes(const crnn_write_many_plan *plan);

/* As crnn_write_pack, crnn_write_launch and crnn_write_status. */
cudaError_t crnn_write_many_pack(const crnn_write_many_plan *plan, void *workspace, const float *weights,
                                 const float *table, cudaStream_t stream);
cudaError_t crnn_write_many_launch(const crnn_write_many_plan *plan, const crnn_write_pass *pass, cudaStream_t stream);
const uint32_t *crnn_write_many_status(const void *workspace);

#ifdef __cplusplus
}
#endif
#endif
