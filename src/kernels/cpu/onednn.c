#include "kernels/cpu/onednn.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>

bool crnn_dnnl_sgemm(float *C, int64_t ldc, const float *A, int64_t lda, bool transpose_a, const float *B, int64_t ldb,
                     bool transpose_b, int64_t M, int64_t N, int64_t K, float beta)
{
    return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, 1.0F, A, lda, B, ldb, beta, C, ldc) ==
           dnnl_success;
}

static const char *isa_name(void)
{
#if defined(__x86_64__)
    int isa = (int)dnnl_get_effective_cpu_isa();
    return isa == (int)dnnl_cpu_isa_sse41              ? "sse41"
           : isa == (int)dnnl_cpu_isa_avx              ? "avx"
           : isa == (int)dnnl_cpu_isa_avx2             ? "avx2"
           : isa == (int)dnnl_cpu_isa_avx2_vnni        ? "avx2_vnni"
           : isa == (int)dnnl_cpu_isa_avx512_core      ? "avx512"
           : isa == (int)dnnl_cpu_isa_avx512_core_vnni ? "avx512_vnni"
           : isa == (int)dnnl_cpu_isa_avx512_core_bf16 ? "avx512_bf16"
                                                       : "amx or later";
#elif defined(__aarch64__)
    return "aarch64";
#else
    return "generic";
#endif
}

void crnn_dnnl_version_text(char *text, int size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, (size_t)size, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch, isa_name());
}
