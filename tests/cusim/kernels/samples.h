/* samples.h - small kernels that are right: what a kernel may do, each by its launcher. Pointers are the device's. */
#ifndef CUSIM_SAMPLES_H
#define CUSIM_SAMPLES_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sums[b] = the sum of row b of x [rows,n], by shuffles and shared memory. */
cudaError_t sample_sums(float *sums, const float *x, int rows, int n, cudaStream_t stream);
/* y = reverse of x in blocks of 256 through dynamic shared memory; n is a multiple of 256. */
cudaError_t sample_reverse(int *y, const int *x, int n, cudaStream_t stream);
/* The same, for blocks of 256 and a warp's shared memory ordered by __syncwarp alone: each 32 are reversed. */
cudaError_t sample_reverse_warps(int *y, const int *x, int n, cudaStream_t stream);
/* x [blocks*64]: steps times, each element becomes the mean of its neighbours (a ring), with two buffers and grid barriers. */
cudaError_t sample_smooth(float *x, float *other, int blocks, int steps, cudaStream_t stream);
/* counts[v] += how often v is in x [n]; integer atomics. */
cudaError_t sample_count(unsigned *counts, const uint8_t *x, int n, cudaStream_t stream);
/* The last block to finish writes the sum of what the others left in parts [blocks] (a flag orders them). */
cudaError_t sample_last_block(int *sum, int *parts, unsigned *done, int blocks, cudaStream_t stream);
/* y [32] = the reverse of what another block writes to x [32]; one lane waits for the flag, a warp barrier does the rest. */
cudaError_t sample_hand_over(int *y, int *x, unsigned *flag, cudaStream_t stream);
/* d [16,8] = a [16,16] times b [16,8], both bf16 or both half, by mma.sync, ldmatrix and cp.async. */
cudaError_t sample_mma(float *d, const uint16_t *a, const uint16_t *b, bool half, cudaStream_t stream);
/* bits[i] = x[i] rounded to half, back[i] the value of that. */
cudaError_t sample_halve(uint16_t *bits, float *back, const float *x, int n, cudaStream_t stream);
/* y[i] = x[i], structures of three doubles, copied as a whole. */
cudaError_t sample_copy_triples(double *y, const double *x, int n, cudaStream_t stream);
/* y += x, element by element. */
cudaError_t sample_add(int *y, const int *x, int n, cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
