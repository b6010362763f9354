/* product.c - matrix products by cuBLASLt: descriptors and algorithm of each shape are made at its first use and kept. */
#include "host/base/memory.h"
#include "kernels/cuda/cuda.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a product was made for. Alignments count, as an algorithm may load sixteen bytes at a time. */
typedef struct {
    crnn_cuda_product_shape shape;
    uint32_t align_a, align_b, align_c, align_bias;
    bool bias;
} product_key;

struct crnn_cuda_product {
    crnn_cuda_product *next;
    product_key key;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
};

static uint32_t alignment(const void *p)
{
    uintptr_t bits = (uintptr_t)p | 256;
    return (uint32_t)(bits & (~bits + 1));
}

/* Padding is compared too, so the key is cleared first. */
static product_key key_of(const crnn_cuda_product_shape *s, const float *C, const void *A, const void *B,
                          const float *bias)
{
    product_key key;
    memset(&key, 0, sizeof key);
    key.shape.M = s->M, key.shape.N = s->N, key.shape.K = s->K;
    key.shape.lda = s->lda, key.shape.ldb = s->ldb, key.shape.ldc = s->ldc;
    key.shape.transpose_a = s->transpose_a, key.shape.transpose_b = s->transpose_b;
    key.shape.format = s->format, key.shape.accumulate = s->accumulate, key.shape.batch = s->batch;
    key.shape.step_a = s->step_a, key.shape.step_b = s->step_b, key.shape.step_c = s->step_c;
    key.align_a = alignment(A), key.align_b = alignment(B), key.align_c = alignment(C);
    key.align_bias = alignment(bias);
    key.bias = bias != NULL;
    return key;
}

static void product_free(crnn_cuda *cuda, crnn_cuda_product *p)
{
    if (p->desc)
        cuda->lib.cublasLtMatmulDescDestroy(p->desc);
    if (p->a)
        cuda->lib.cublasLtMatrixLayoutDestroy(p->a);
    if (p->b)
        cuda->lib.cublasLtMatrixLayoutDestroy(p->b);
    if (p->c)
        cuda->lib.cublasLtMatrixLayoutDestroy(p->c);
    free(p);
}

void crnn_cuda_products_free(crnn_cuda *cuda)
{
    while (cuda->products) {
        crnn_cuda_product *next = cuda->products->next;
        product_free(cuda, cuda->products);
        cuda->products = next;
    }
}

static bool set(crnn_cuda *cuda, cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value,
                size_t bytes)
{
    return crnn_cublas_ok(cuda, cuda->lib.cublasLtMatmulDescSetAttribute(desc, attribute, value, bytes));
}

static bool lay_out(crnn_cuda *cuda, cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns,
                    int64_t ld, int32_t batch, int64_t step)
{
    const crnn_gpu_libraries *lib = &cuda->lib;
    return crnn_cublas_ok(cuda, lib->cublasLtMatrixLayoutCreate(layout, type, rows, columns, ld)) &&
           (batch <= 1 ||
            (crnn_cublas_ok(cuda, lib->cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                                        &batch, sizeof batch)) &&
             crnn_cublas_ok(cuda, lib->cublasLtMatrixLayoutSetAttribute(
                                      *layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step))));
}

/* The library thinks in columns: a row-major matrix is its transpose, and C' = op(B)' op(A)'. So its first factor is B. */
static bool describe(crnn_cuda *cuda, crnn_cuda_product *p)
{
    const crnn_cuda_product_shape *s = &p->key.shape;
    const crnn_gpu_libraries *lib = &cuda->lib;
    bool exact = cuda->config.precision == CRNN_FP32 || s->format != CRNN_FORMAT_FLOAT;
    cublasComputeType_t compute = exact ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_32F_FAST_TF32;
    cudaDataType type = s->format == CRNN_FORMAT_BF16   ? CUDA_R_16BF
                        : s->format == CRNN_FORMAT_FP16 ? CUDA_R_16F
                                                        : CUDA_R_32F;
    cublasOperation_t first = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = p->key.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    uint64_t M = (uint64_t)s->M, N = (uint64_t)s->N, K = (uint64_t)s->K;
    return crnn_cublas_ok(cuda, lib->cublasLtMatmulDescCreate(&p->desc, compute, CUDA_R_32F)) &&
           set(cuda, p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
           set(cuda, p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
           set(cuda, p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           lay_out(cuda, &p->a, type, s->transpose_b ? K : N, s->transpose_b ? N : K, s->ldb, s->batch, s->step_b) &&
           lay_out(cuda, &p->b, type, s->transpose_a ? M : K, s->transpose_a ? K : M, s->lda, s->batch, s->step_a) &&
           lay_out(cuda, &p->c, CUDA_R_32F, N, M, s->ldc, s->batch, s->step_c);
}

static bool prefer(crnn_cuda *cuda, cublasLtMatmulPreference_t preference,
                   cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t bytes)
{
    return crnn_cublas_ok(cuda, cuda->lib.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes));
}

/* The library's first choice, which for the same shape, alignment and version is always the same. */
static bool choose(crnn_cuda *cuda, crnn_cuda_product *p)
{
    const crnn_gpu_libraries *lib = &cuda->lib;
    uint64_t room = cuda->workspace_bytes;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    if (!crnn_cublas_ok(cuda, lib->cublasLtMatmulPreferenceCreate(&preference)))
        return false;
    bool ok = prefer(cuda, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room) &&
              prefer(cuda, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p->key.align_b, sizeof(uint32_t)) &&
              prefer(cuda, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p->key.align_a, sizeof(uint32_t)) &&
              prefer(cuda, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p->key.align_c, sizeof(uint32_t)) &&
              prefer(cuda, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p->key.align_c, sizeof(uint32_t)) &&
              crnn_cublas_ok(cuda, lib->cublasLtMatmulAlgoGetHeuristic(cuda->lt, p->desc, p->a, p->b, p->c, p->c,
                                                                       preference, 1, &result, &found));
    lib->cublasLtMatmulPreferenceDestroy(preference);
    if (ok && found < 1)
        crnn_cuda_failed(cuda, CRNN_ERR_FAULT, "cuBLASLt knows no way to compute this product");
    if (!ok || found < 1)
        return false;
    p->algo = result.algo;
    return true;
}

static crnn_cuda_product *product_for(crnn_cuda *cuda, const product_key *key)
{
    for (crnn_cuda_product *p = cuda->products; p; p = p->next)
        if (memcmp(&p->key, key, sizeof *key) == 0)
            return p;
    crnn_cuda_product *p = calloc(1, sizeof *p);
    if (!p) {
        crnn_cuda_failed(cuda, CRNN_ERR_MEMORY, "out of memory");
        return NULL;
    }
    p->key = *key;
    if (!describe(cuda, p) || !choose(cuda, p)) {
        product_free(cuda, p);
        return NULL;
    }
    p->next = cuda->products;
    return cuda->products = p;
}

void crnn_cuda_multiply(crnn_cuda *cuda, const crnn_cuda_product_shape *shape, float *C, const void *A, const void *B,
                        const float *bias)
{
    const float alpha = ldexpf(1, -shape->halvings), beta = shape->accumulate ? 1 : 0;
    if (cuda->failure.status)
        return;
    product_key key = key_of(shape, C, A, B, bias);
    crnn_cuda_product *p = product_for(cuda, &key);
    if (!p || (bias && !set(cuda, p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)))
        return;
    crnn_cublas_ok(cuda, cuda->lib.cublasLtMatmul(cuda->lt, p->desc, &alpha, B, p->a, A, p->b, &beta, C, p->c, C, p->c,
                                                  &p->algo, cuda->workspace, cuda->workspace_bytes, cuda->stream));
}

/* Milliseconds of one n x n x n product, the best of a few; 0 where something failed. */
static float time_product(crnn_cuda *cuda, int64_t n, float *C, const void *A, const void *B, cudaEvent_t from,
                          cudaEvent_t to)
{
    crnn_cuda_product_shape shape = {.M = n, .N = n, .K = n, .lda = n, .ldb = n, .ldc = n};
    shape.format = cuda->config.precision == CRNN_BF16 ? CRNN_FORMAT_BF16 : CRNN_FORMAT_FLOAT;
    float best = 0;
    for (int round = 0; round < 4; round++) {
        float ms = 0;
        if (!crnn_cuda_ok(cuda, cudaEventRecord(from, cuda->stream)))
            return 0;
        crnn_cuda_multiply(cuda, &shape, C, A, B, NULL);
        if (!crnn_cuda_ok(cuda, cudaEventRecord(to, cuda->stream)) || !crnn_cuda_ok(cuda, cudaEventSynchronize(to)) ||
            !crnn_cuda_ok(cuda, cudaEventElapsedTime(&ms, from, to)))
            return 0;
        best = round == 0 || ms < best ? ms : best;
    }
    return best;
}

double crnn_cuda_peak_rate(crnn_backend *be)
{
    crnn_cuda *cuda = crnn_cuda_of(be);
    const int64_t largest = 8192;
    const float enough = 2; /* ms: longer ones are no faster */
    cudaEvent_t from = NULL, to = NULL;
    double rate = 0;
    if (!crnn_cuda_begin(cuda, "peak_rate") || !crnn_cuda_ok(cuda, cudaEventCreate(&from)))
        return 0;
    crnn_cuda_ok(cuda, cudaEventCreate(&to));
    float ms = 0;
    for (int64_t n = 256; n <= largest && ms < enough && !cuda->failure.status; n *= 2) {
        float *C = crnn_cuda_alloc_items(cuda, n, n, sizeof(float)), *A = crnn_cuda_alloc_items(cuda, n, n, sizeof *A),
              *B = crnn_cuda_alloc_items(cuda, n, n, sizeof *B);
        ms = time_product(cuda, n, C, A, B, from, to);
        double this_rate = ms > 0 ? 2.0 * (double)n * (double)n * (double)n / ((double)ms * 1e-3) : 0;
        rate = this_rate > rate ? this_rate : rate;
        crnn_cuda_free(be, C);
        crnn_cuda_free(be, A);
        crnn_cuda_free(be, B);
    }
    cudaEventDestroy(from);
    if (to)
        cudaEventDestroy(to);
    return rate;
}
