/* onednn.h - the only door to oneDNN, so that its two APIs (2.x and 3.x) meet in one file.
 *
 * Thread counts are OpenMP's, set by the caller. Functions return false where oneDNN refuses.
 */
#ifndef CRNN_KERNELS_CPU_ONEDNN_H
#define CRNN_KERNELS_CPU_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

/* Row-major C [M,N] = beta C + op(A) [M,K] op(B) [K,N]; lda, ldb, ldc: floats from row to row as stored. */
bool crnn_dnnl_sgemm(float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B, int64_t ldb,
                     bool transpose_b, int64_t M, int64_t N, int64_t K, float beta);

/* "oneDNN 2.6.3, avx512_bf16" into text (size bytes). */
void crnn_dnnl_version_text(char *text, int size);

#endif
