/* onednn.h - the one place that knows oneDNN's interface; builds with 2.x and 3.x. */
#ifndef CRNN_KERNELS_CPU_ONEDNN_H
#define CRNN_KERNELS_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* C [M,N] = op(A) op(B) + beta C, row-major, with as many threads as OpenMP's setting says. Returns NULL, or what went wrong. */
const char *crnn_onednn_sgemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float *A,
                              int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc);
/* "oneDNN 2.6.3". */
void crnn_onednn_versions(char *out, size_t size);

#endif
