/* onednn.h - the only door to oneDNN, so that its two APIs (2.x and 3.x) meet in one file.
 *
 * Thread counts are OpenMP's, set by the caller. Functions return false or NULL where oneDNN refuses.
 */
#ifndef CRNN_KERNELS_CPU_ONEDNN_H
#define CRNN_KERNELS_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Row-major C [M,N] = beta C + op(A) [M,K] op(B) [K,N]; lda, ldb, ldc: floats from row to row as stored. */
bool crnn_dnnl_sgemm(float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B, int64_t ldb,
                     bool transpose_b, int64_t M, int64_t N, int64_t K, float beta);

/* A product of one shape, C [M,N] float32 = op(A) [M,K] B [K,N], with A and B in bfloat16 and sums in float32. A is stored without gaps,
 * as [K,M] where it is to be transposed; B without gaps as [K,N], or packed from float32 in the order that oneDNN likes best. */
typedef struct crnn_dnnl_bf16 crnn_dnnl_bf16;
typedef struct {
    int64_t M, N, K, ldc;
    bool transpose_a;
    bool pack_b;      /* B comes through crnn_dnnl_bf16_pack */
    int64_t ldb;      /* of the float32 B given to pack */
    bool transpose_b; /* which is then stored [N,K] */
} crnn_dnnl_bf16_shape;
crnn_dnnl_bf16 *crnn_dnnl_bf16_new(const crnn_dnnl_bf16_shape *shape);
void crnn_dnnl_bf16_free(crnn_dnnl_bf16 *p);
size_t crnn_dnnl_bf16_packed_bytes(const crnn_dnnl_bf16 *p);
bool crnn_dnnl_bf16_pack(crnn_dnnl_bf16 *p, void *packed, const float *B);
bool crnn_dnnl_bf16_run(crnn_dnnl_bf16 *p, float *C, const uint16_t *A, const void *B);

/* "oneDNN 2.6.3, avx512_bf16" into text (size bytes). */
void crnn_dnnl_version_text(char *text, int size);

#endif
