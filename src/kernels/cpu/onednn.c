#include "kernels/cpu/onednn.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

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

/* A memory descriptor is a value in 2.x and an object in 3.x; md is the type to keep, MD(x) what calls want. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md;
typedef const_dnnl_memory_desc_t const_md;
#define MD(x) (x)
#else
typedef dnnl_memory_desc_t md;
typedef const dnnl_memory_desc_t *const_md;
#define MD(x) (&(x))
#endif

struct crnn_dnnl_bf16 {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t product_desc, reorder_desc;
    dnnl_primitive_t product, reorder;
    dnnl_memory_t A, B, C, unpacked;
    md md_A, md_B, md_C, md_unpacked;
    size_t packed_bytes;
};

static bool make_md(md *d, int64_t rows, int64_t columns, int64_t ld, bool transposed, dnnl_data_type_t type)
{
    dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides) == dnnl_success;
#else
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides) == dnnl_success;
#endif
}

static bool make_any_md(md *d, int64_t rows, int64_t columns, dnnl_data_type_t type)
{
    dnnl_dims_t dims = {rows, columns};
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(d, 2, dims, type, dnnl_format_tag_any) == dnnl_success;
#else
    return dnnl_memory_desc_init_by_tag(d, 2, dims, type, dnnl_format_tag_any) == dnnl_success;
#endif
}

static bool make_product_desc(crnn_dnnl_bf16 *p)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(&p->product_desc, p->engine, p->md_A, p->md_B, NULL, p->md_C, NULL) ==
           dnnl_success;
#else
    dnnl_matmul_desc_t d;
    return dnnl_matmul_desc_init(&d, &p->md_A, &p->md_B, NULL, &p->md_C) == dnnl_success &&
           dnnl_primitive_desc_create(&p->product_desc, &d, NULL, p->engine, NULL) == dnnl_success;
#endif
}

/* The data pointers come with each run. */
static bool make_memory(dnnl_memory_t *memory, const_md d, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, d, engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static bool make_reorder(crnn_dnnl_bf16 *p, const crnn_dnnl_bf16_shape *s, const_md packed)
{
    p->packed_bytes = dnnl_memory_desc_get_size(packed);
    return make_md(&p->md_unpacked, s->K, s->N, s->ldb, s->transpose_b, dnnl_f32) &&
           dnnl_reorder_primitive_desc_create(&p->reorder_desc, MD(p->md_unpacked), p->engine, packed, p->engine,
                                              NULL) == dnnl_success &&
           dnnl_primitive_create(&p->reorder, p->reorder_desc) == dnnl_success &&
           make_memory(&p->unpacked, MD(p->md_unpacked), p->engine);
}

crnn_dnnl_bf16 *crnn_dnnl_bf16_new(const crnn_dnnl_bf16_shape *s)
{
    crnn_dnnl_bf16 *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success)
        goto fail;
    if (!make_md(&p->md_A, s->M, s->K, s->transpose_a ? s->M : s->K, s->transpose_a, dnnl_bf16) ||
        !make_md(&p->md_C, s->M, s->N, s->ldc, false, dnnl_f32) ||
        !(s->pack_b ? make_any_md(&p->md_B, s->K, s->N, dnnl_bf16)
                    : make_md(&p->md_B, s->K, s->N, s->N, false, dnnl_bf16)))
        goto fail;
    if (!make_product_desc(p) || dnnl_primitive_create(&p->product, p->product_desc) != dnnl_success)
        goto fail;
    const_md B = dnnl_primitive_desc_query_md(p->product_desc, dnnl_query_weights_md, 0);
    if (!B || !make_memory(&p->A, MD(p->md_A), p->engine) || !make_memory(&p->B, B, p->engine) ||
        !make_memory(&p->C, MD(p->md_C), p->engine))
        goto fail;
    if (s->pack_b && !make_reorder(p, s, B))
        goto fail;
    return p;
fail:
    crnn_dnnl_bf16_free(p);
    return NULL;
}

void crnn_dnnl_bf16_free(crnn_dnnl_bf16 *p)
{
    if (!p)
        return;
    dnnl_memory_t memories[] = {p->A, p->B, p->C, p->unpacked};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i])
            dnnl_memory_destroy(memories[i]);
    if (p->reorder)
        dnnl_primitive_destroy(p->reorder);
    if (p->product)
        dnnl_primitive_destroy(p->product);
    if (p->reorder_desc)
        dnnl_primitive_desc_destroy(p->reorder_desc);
    if (p->product_desc)
        dnnl_primitive_desc_destroy(p->product_desc);
#if DNNL_VERSION_MAJOR >= 3
    md descriptors[] = {p->md_A, p->md_B, p->md_C, p->md_unpacked};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        if (descriptors[i])
            dnnl_memory_desc_destroy(descriptors[i]);
#endif
    if (p->stream)
        dnnl_stream_destroy(p->stream);
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    free(p);
}

size_t crnn_dnnl_bf16_packed_bytes(const crnn_dnnl_bf16 *p)
{
    return p->packed_bytes;
}

/* oneDNN's memory objects are not const, though it only reads what it takes as input. */
static bool point(dnnl_memory_t memory, const void *data)
{
    return dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)data) == dnnl_success;
}

bool crnn_dnnl_bf16_pack(crnn_dnnl_bf16 *p, void *packed, const float *B)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, p->unpacked}, {DNNL_ARG_TO, p->B}};
    return point(p->unpacked, B) && point(p->B, packed) &&
           dnnl_primitive_execute(p->reorder, p->stream, 2, args) == dnnl_success &&
           dnnl_stream_wait(p->stream) == dnnl_success;
}

bool crnn_dnnl_bf16_run(crnn_dnnl_bf16 *p, float *C, const uint16_t *A, const void *B)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->A}, {DNNL_ARG_WEIGHTS, p->B}, {DNNL_ARG_DST, p->C}};
    return point(p->A, A) && point(p->B, B) && point(p->C, C) &&
           dnnl_primitive_execute(p->product, p->stream, 3, args) == dnnl_success &&
           dnnl_stream_wait(p->stream) == dnnl_success;
}
