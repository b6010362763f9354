#include "kernels/cpu/onednn.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>

const char *crnn_onednn_sgemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, const float *A,
                              int64_t lda, const float *B, int64_t ldb, float beta, float *C, int64_t ldc)
{
    dnnl_status_t status =
        dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, 1.0F, A, lda, B, ldb, beta, C, ldc);
    switch (status) {
    case dnnl_success:
        return NULL;
    case dnnl_out_of_memory:
        return "oneDNN is out of memory";
    case dnnl_invalid_arguments:
        return "oneDNN refuses the arguments";
    default:
        return "oneDNN failed";
    }
}

void crnn_onednn_versions(char *out, size_t size)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
}
