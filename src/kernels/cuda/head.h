/* head.h - the dense layer, the loss and all their gradients by kernels of our own: logits live in shared memory only.
 *
 * Products run on tensor cores in fp16: of 11 bits as tf32 has, or of 22 ("split": two fp16 numbers for each value and three products) for
 * float32 accuracy. Powers of two move each column of W and each row of gradients into its range. |x| may go up to 255, and states are
 * below 1; what is beyond makes the loss no number and `finite` 0, never a wrong result.
 *
 * Four launches: W into the order in which tensor cores want it; for each 64 rows logits, loss, their gradient and dx at once; dW in
 * shares of the rows; the shares, db and the numbers added up in order. Each order of summation depends on sizes alone.
 */
#ifndef CRNN_KERNELS_CUDA_HEAD_H
#define CRNN_KERNELS_CUDA_HEAD_H

#include "kernels/backend.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CRNN_HEAD_MOST_V = 256,          /* more logits of 64 rows would not fit into shared memory */
    CRNN_HEAD_OLDEST_MAJOR = 8,      /* compute capability with these tensor cores */
    CRNN_HEAD_MOST_SHARED = 76 << 10 /* bytes of shared memory a block takes at most; every such GPU has 99 KiB */
};

size_t crnn_head_bytes(int64_t n, int32_t H, int32_t V, bool split);
/* head->V <= CRNN_HEAD_MOST_V, head->scratch of crnn_head_bytes() and 256-byte aligned. */
cudaError_t crnn_launch_head(const crnn_head *head, bool split, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
