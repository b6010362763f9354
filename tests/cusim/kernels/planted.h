/* planted.h - kernels each with one mistake that the simulator must find, by their launchers. Pointers are the device's. */
#ifndef CUSIM_PLANTED_H
#define CUSIM_PLANTED_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Barriers and warps: every variant finds these. */
cudaError_t planted_two_barriers(cudaStream_t stream); /* halves of a block wait at different barriers */
cudaError_t planted_barrier_after_exit(int *p);        /* a thread leaves before a barrier */
cudaError_t planted_barrier_skipped(int *p); /* half of a warp never comes to it, as it waits for the other half */
cudaError_t planted_lane_outside_its_mask(int *p);          /* odd lanes shuffle with the mask of the even ones */
cudaError_t planted_shuffle_from_outside(int *p);           /* a source lane that takes no part */
cudaError_t planted_half_a_warp_waits(int *p);              /* __syncwarp by half of a warp */
cudaError_t planted_grid_barrier_without_cooperation(void); /* grid.sync in an ordinary launch */
cudaError_t planted_no_shared_memory(int *p);               /* dynamic shared memory, launched with none of it */
cudaError_t planted_misaligned_ldmatrix(int *p);            /* a row address that 16 does not divide */

/* Memory and races: the checker finds these. */
cudaError_t planted_block_race(int *p);   /* four blocks write one place */
cudaError_t planted_shared_race(int *p);  /* [64]: no __syncthreads between writing and reading a tile */
cudaError_t planted_shared_reuse(int *p); /* [64]: no __syncthreads before a tile is written again */
cudaError_t planted_warp_race(int *p);    /* [32]: no __syncwarp within a warp */
cudaError_t
planted_hand_over(int *p, unsigned *flag); /* [64]: a lane waits for another block, no __syncwarp tells the others */
cudaError_t planted_words(
    int *p, unsigned *word,
    int reads); /* [64], [32]: reads what the writer of a relaxed word wrote; 0: right, writes over what he read */
cudaError_t planted_float_atomic_as_flag(float *flag, int *p); /* a float atomic orders nothing */
cudaError_t planted_copy_wait(int *p, const int *x);           /* [128] each: cp.async without its wait */
cudaError_t planted_copy(int *to, const int *from, int threads,
                         cudaStream_t stream);                     /* to[i] = from[i]; right where there is room */
cudaError_t planted_misaligned_load(float *to, const float *from); /* a float4 at a float's address */
cudaError_t planted_shared_bounds(int *p);                         /* 32 numbers in 16 numbers' dynamic shared memory */
cudaError_t planted_stack_of_another(int *p);                      /* one thread reads a local variable of another */

/* Always refused. */
cudaError_t planted_big_block(void);
cudaError_t planted_big_shared_memory(int *p);
cudaError_t planted_shared_memory_beside_its_own(int *p, size_t more); /* of a kernel that has 4096 bytes */
cudaError_t planted_big_cooperation(void);
#ifdef __cplusplus
}
#endif
#endif
