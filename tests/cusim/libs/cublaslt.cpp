// cublaslt.cpp - the stand-in for cuBLASLt: the calls of cublasLt.h, on the CPU and in their turn on the stream.
//
// Setting an attribute checks its size alone, as the library does; what does not fit together is found by the heuristic and by the product.
// Where the library's own rules are wider or not written down, this one is narrow: an algorithm fits only what it was asked for, it wants
// the alignment that the preference promised (16 bytes at most), and it overwrites the workspace that it asked for.
#include "numbers.h"
#include <cstring>
#include <cublasLt.h>

struct cublasLtContext {
    int unused;
};
struct cusim_matmul_desc {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t pointer_mode = 0, transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr;
    int32_t bias_type = -1; // that of D
};
struct cusim_matrix_layout {
    uint32_t type;
    int32_t order = CUBLASLT_ORDER_COL;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch = 1;
    int64_t stride = 0;
};
struct cusim_matmul_preference {
    uint64_t workspace = 0;
    uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t align[4] = {256, 256, 256, 256}; // of A, B, C, D
};

namespace cusim
{
static const char HANDLE[] = "cuBLASLt handle", DESC[] = "product's description", LAYOUT[] = "matrix layout",
                  PREFERENCE[] = "preference";

struct Problem {
    cusim_matmul_desc desc;
    cusim_matrix_layout a, b, c, d;
    size_t m, n, k;
};

// ---- what is supported
static size_t span(const cusim_matrix_layout &l) // elements from a matrix's first to its last
{
    const bool col = l.order == CUBLASLT_ORDER_COL;
    return static_cast<size_t>(l.ld) * ((col ? l.cols : l.rows) - 1) + (col ? l.rows : l.cols);
}
static bool sound(const cusim_matrix_layout &l)
{
    if ((l.order != CUBLASLT_ORDER_COL && l.order != CUBLASLT_ORDER_ROW) || !l.rows || !l.cols || l.batch < 1)
        return false;
    return l.ld >= 0 && static_cast<uint64_t>(l.ld) >= (l.order == CUBLASLT_ORDER_COL ? l.rows : l.cols);
}
static bool types_fit(const Problem &p)
{
    const uint32_t in = p.a.type, out = p.d.type;
    if (p.desc.scale != CUDA_R_32F || p.b.type != in || p.c.type != out)
        return false;
    switch (p.desc.compute) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
        return bytes_of(static_cast<cudaDataType>(in)) && (out == CUDA_R_32F || out == in);
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32:
        return in == CUDA_R_32F && out == CUDA_R_32F;
    }
    return false;
}
// The bias runs over the rows of D. With D row by row the library has no epilogue but the default one.
static bool epilogue_fits(const Problem &p)
{
    const cusim_matmul_desc &e = p.desc;
    if (e.epilogue == CUBLASLT_EPILOGUE_DEFAULT)
        return true;
    if (p.d.order != CUBLASLT_ORDER_COL || (e.bias_type >= 0 && static_cast<uint32_t>(e.bias_type) != p.d.type))
        return false;
    if (e.epilogue == CUBLASLT_EPILOGUE_BIAS)
        return true;
    const bool gradient = e.epilogue == CUBLASLT_EPILOGUE_BGRADA || e.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    return gradient && p.d.batch == 1 && p.a.order == CUBLASLT_ORDER_COL && p.b.order == CUBLASLT_ORDER_COL;
}
static cublasStatus_t understand(Problem *p, const cusim_matmul_desc *desc, const cusim_matrix_layout *a,
                                 const cusim_matrix_layout *b, const cusim_matrix_layout *c,
                                 const cusim_matrix_layout *d)
{
    if (!given(desc, DESC) || !given(a, LAYOUT) || !given(b, LAYOUT) || !given(c, LAYOUT) || !given(d, LAYOUT))
        return CUBLAS_STATUS_INVALID_VALUE;
    *p = {*desc, *a, *b, *c, *d, 0, 0, 0};
    const bool ta = desc->transa == CUBLAS_OP_T, tb = desc->transb == CUBLAS_OP_T;
    if ((!ta && desc->transa != CUBLAS_OP_N) || (!tb && desc->transb != CUBLAS_OP_N))
        return CUBLAS_STATUS_INVALID_VALUE;
    p->m = ta ? a->cols : a->rows;
    p->k = ta ? a->rows : a->cols;
    p->n = tb ? b->rows : b->cols;
    if (!sound(*a) || !sound(*b) || !sound(*c) || !sound(*d) || (tb ? b->cols : b->rows) != p->k)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d->rows != p->m || d->cols != p->n || c->rows != p->m || c->cols != p->n || c->order != d->order)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a->batch != d->batch || b->batch != d->batch || c->batch != d->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d->batch > 1 && (a->stride < 0 || b->stride < 0 || d->stride < static_cast<int64_t>(span(*d))))
        return CUBLAS_STATUS_INVALID_VALUE;
    return types_fit(*p) && epilogue_fits(*p) && desc->pointer_mode == 0 ? CUBLAS_STATUS_SUCCESS
                                                                         : CUBLAS_STATUS_NOT_SUPPORTED;
}

// ---- algorithms: what they were made for, the alignment they want of A, B, C, D, and their workspace
struct Algo {
    uint64_t magic, problem, workspace;
    uint32_t align[4];
    uint64_t unused[3];
};
static_assert(sizeof(Algo) == sizeof(cublasLtMatmulAlgo_t), "an algorithm is passed by value");
static const uint64_t MAGIC = 0x6d756c2073696d63;

static void mix(uint64_t *h, std::initializer_list<uint64_t> values)
{
    for (uint64_t v : values)
        *h = (*h ^ v) * 0x100000001b3 + 1;
}
static uint64_t fingerprint(const Problem &p)
{
    uint64_t h = 0xcbf29ce484222325;
    const cusim_matmul_desc &e = p.desc;
    mix(&h, {e.compute, static_cast<uint64_t>(e.transa), static_cast<uint64_t>(e.transb), e.epilogue});
    for (const cusim_matrix_layout *l : {&p.a, &p.b, &p.c, &p.d})
        mix(&h, {l->type, static_cast<uint64_t>(l->order), l->rows, l->cols, static_cast<uint64_t>(l->ld),
                 static_cast<uint64_t>(l->batch), static_cast<uint64_t>(l->stride)});
    return h;
}
// The most, up to 16, that the promise and the distances in the matrix allow.
static uint32_t alignment(const cusim_matrix_layout &l, uint64_t promised)
{
    const uint64_t size = bytes_of(static_cast<cudaDataType>(l.type));
    const uint64_t distances =
        static_cast<uint64_t>(l.ld) * size | (l.batch > 1 ? static_cast<uint64_t>(l.stride) * size : 0);
    uint32_t align = 16;
    while (align > 1 && (promised % align || distances % align))
        align /= 2;
    return align;
}
static bool choose(Algo *algo, const Problem &p, const cusim_matmul_preference &preference)
{
    *algo = {MAGIC, fingerprint(p), 0, {}, {}};
    const cusim_matrix_layout *layouts[] = {&p.a, &p.b, &p.c, &p.d};
    for (int i = 0; i < 4; i++) {
        algo->align[i] = alignment(*layouts[i], preference.align[i]);
        if (algo->align[i] < bytes_of(static_cast<cudaDataType>(layouts[i]->type)))
            return false;
    }
    // Long sums over few results are shared out, with partial sums in the workspace where it is granted.
    const uint64_t partial = 2 * sizeof(float) * p.m * p.n * static_cast<uint64_t>(p.d.batch);
    if (preference.reduction && p.k >= 128 && p.k > p.m && partial <= preference.workspace)
        algo->workspace = partial;
    return true;
}

// ---- the product itself
struct Matmul {
    Problem p;
    float alpha, beta;
    const char *a, *b, *c;
    char *d;
    void *workspace;
    size_t workspace_bytes;
};
static size_t place(const cusim_matrix_layout &l, size_t i, size_t j)
{
    const size_t ld = static_cast<size_t>(l.ld);
    return l.order == CUBLASLT_ORDER_COL ? j * ld + i : i * ld + j;
}
static void touch(const cusim_matrix_layout &l, const char *at, bool write)
{
    const bool col = l.order == CUBLASLT_ORDER_COL;
    const size_t size = bytes_of(static_cast<cudaDataType>(l.type)), ld = static_cast<size_t>(l.ld) * size;
    const size_t lines = col ? l.cols : l.rows, line = (col ? l.rows : l.cols) * size;
    if (line == ld)
        cusim_touch(at, line * lines, write);
    for (size_t i = 0; line != ld && i < lines; i++)
        cusim_touch(at + i * ld, line, write);
}
static Operand operand(const Problem &p)
{
    switch (p.desc.compute) {
    case CUBLAS_COMPUTE_32F_FAST_TF32:
        return Operand::TF32;
    case CUBLAS_COMPUTE_32F_FAST_16F:
        return Operand::FP16;
    case CUBLAS_COMPUTE_32F_FAST_16BF:
        return Operand::BF16;
    default:
        return Operand::EXACT;
    }
}
static Packed pack(const cusim_matrix_layout &l, const char *at, bool transposed, Operand to)
{
    const auto type = static_cast<cudaDataType>(l.type);
    return transposed ? pack(l.cols, l.rows, to, [&](size_t i, size_t j) { return load(at, type, place(l, j, i)); })
                      : pack(l.rows, l.cols, to, [&](size_t i, size_t j) { return load(at, type, place(l, i, j)); });
}
// The sums of an operand over k: of each row of op(A), or of each column of op(B).
static void bias_gradient(const Matmul &call, const Packed &a, const Packed &b)
{
    const bool of_a = call.p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    const auto type = static_cast<cudaDataType>(call.p.d.type);
    const size_t n = of_a ? call.p.m : call.p.n;
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t k = 0; k < call.p.k; k++)
            sum += of_a ? a.row(i)[k] : b.row(k)[i];
        store(call.p.desc.bias, type, i, sum);
    }
    cusim_touch(call.p.desc.bias, n * bytes_of(type), true);
}
static void multiply(const Matmul &call, size_t batch)
{
    const Problem &p = call.p;
    auto nth = [&](const cusim_matrix_layout &l) {
        return batch * static_cast<size_t>(l.stride) * bytes_of(static_cast<cudaDataType>(l.type));
    };
    const char *at_a = call.a + nth(p.a), *at_b = call.b + nth(p.b),
               *at_c = call.beta != 0 ? call.c + nth(p.c) : nullptr;
    char *at_d = call.d + nth(p.d);
    const auto type = static_cast<cudaDataType>(p.d.type);
    const void *bias = p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS ? p.desc.bias : nullptr;
    touch(p.a, at_a, false);
    touch(p.b, at_b, false);
    if (at_c)
        touch(p.c, at_c, false);
    if (bias)
        cusim_touch(bias, p.m * bytes_of(type), false);
    const Packed a = pack(p.a, at_a, p.desc.transa == CUBLAS_OP_T, operand(p));
    const Packed b = pack(p.b, at_b, p.desc.transb == CUBLAS_OP_T, operand(p));
    const Packed ab = product(a, b);
    touch(p.d, at_d, true);
    for (size_t i = 0; i < p.m; i++)
        for (size_t j = 0; j < p.n; j++) {
            float f = call.alpha * ab.row(i)[j];
            if (at_c)
                f += call.beta * load(at_c, type, place(p.c, i, j));
            if (bias)
                f += load(bias, type, i);
            store(at_d, type, place(p.d, i, j), f);
        }
    if (p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA || p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADB)
        bias_gradient(call, a, b);
}
static size_t bytes(const cusim_matrix_layout &l)
{
    return (static_cast<size_t>(l.batch - 1) * static_cast<size_t>(l.stride) + span(l)) *
           bytes_of(static_cast<cudaDataType>(l.type));
}
static void run(const Matmul &call)
{
    const Problem &p = call.p;
    auto apart = [&](const char *in, size_t n) { return in + n <= call.d || call.d + bytes(p.d) <= in; };
    if (!apart(call.a, bytes(p.a)) || !apart(call.b, bytes(p.b)))
        fail("cublasLtMatmul: the result lies over a factor");
    if (call.workspace_bytes) {
        cusim_touch(call.workspace, call.workspace_bytes, true);
        memset(call.workspace, 0xff, call.workspace_bytes);
    }
    for (int batch = 0; batch < p.d.batch; batch++)
        multiply(call, static_cast<size_t>(batch));
}

static cublasStatus_t status_of(cudaError_t e)
{
    return e == cudaSuccess                 ? CUBLAS_STATUS_SUCCESS
           : e == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
                                            : CUBLAS_STATUS_EXECUTION_FAILED;
}
// The attribute's own bytes, if that is how many there are.
static cublasStatus_t set(void *attribute, size_t size, const void *value, size_t n)
{
    if (!attribute || !value || n != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(attribute, value, n);
    return CUBLAS_STATUS_SUCCESS;
}
static bool aligned(const void *p, size_t n)
{
    return reinterpret_cast<uintptr_t>(p) % n == 0;
}
// Whether the pointers are as the algorithm wants them.
static cublasStatus_t check_pointers(const Algo &algo, const Matmul &call)
{
    const void *at[] = {call.a, call.b, call.c, call.d};
    for (int i = 0; i < 4; i++)
        if (!at[i] || !aligned(at[i], algo.align[i]))
            return CUBLAS_STATUS_INVALID_VALUE;
    const Problem &p = call.p;
    if (call.c == call.d && (p.c.ld != p.d.ld || p.c.stride != p.d.stride)) // in place: of one layout
        return CUBLAS_STATUS_INVALID_VALUE;
    if (p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT &&
        (!p.desc.bias || !aligned(p.desc.bias, bytes_of(static_cast<cudaDataType>(p.d.type)))))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (algo.workspace > call.workspace_bytes || (algo.workspace && !aligned(call.workspace, 16)) ||
        (call.workspace_bytes && !call.workspace))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}
// The algorithm that a call without one gets: none but the pointers' own alignment is asked for.
static bool default_algo(Algo *algo, const Matmul &call)
{
    cusim_matmul_preference preference;
    const void *at[] = {call.a, call.b, call.c, call.d};
    preference.workspace = call.workspace_bytes;
    for (int i = 0; i < 4; i++)
        preference.align[i] = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(at[i]) % 16 | 16);
    return choose(algo, call.p, preference);
}
} // namespace cusim
using namespace cusim;
#define ENTER(name)                                                                                                    \
    do {                                                                                                               \
        cublasStatus_t entered = status_of(cusim_call(name));                                                          \
        if (entered != CUBLAS_STATUS_SUCCESS)                                                                          \
            return entered;                                                                                            \
    } while (0)
extern "C" {
size_t cublasLtGetVersion(void)
{
    return 130100;
}
const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "the GPU program failed to execute";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "the requested functionality is not supported";
    default:
        return "unrecognized status";
    }
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    ENTER("cublasLtCreate");
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    *handle = made(new cublasLtContext{}, HANDLE);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    cudaError_t e = cusim_call("cublasLtDestroy");
    destroy(handle, HANDLE);
    return handle ? status_of(e) : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
    ENTER("cublasLtMatmulDescCreate");
    if (!desc)
        return CUBLAS_STATUS_INVALID_VALUE;
    *desc = made(new cusim_matmul_desc, DESC);
    (*desc)->compute = compute;
    (*desc)->scale = scale;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    cudaError_t e = cusim_call("cublasLtMatmulDescDestroy");
    destroy(desc, DESC);
    return status_of(e);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t n)
{
    ENTER("cublasLtMatmulDescSetAttribute");
    if (!given(d, DESC))
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return set(&d->compute, sizeof d->compute, value, n);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return set(&d->scale, sizeof d->scale, value, n);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return set(&d->pointer_mode, sizeof d->pointer_mode, value, n);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&d->transa, sizeof d->transa, value, n);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&d->transb, sizeof d->transb, value, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&d->epilogue, sizeof d->epilogue, value, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&d->bias, sizeof d->bias, value, n);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set(&d->bias_type, sizeof d->bias_type, value, n);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    ENTER("cublasLtMatrixLayoutCreate");
    if (!layout)
        return CUBLAS_STATUS_INVALID_VALUE;
    *layout = made(new cusim_matrix_layout, LAYOUT);
    (*layout)->type = static_cast<uint32_t>(type);
    (*layout)->rows = rows;
    (*layout)->cols = cols;
    (*layout)->ld = ld;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    cudaError_t e = cusim_call("cublasLtMatrixLayoutDestroy");
    destroy(layout, LAYOUT);
    return status_of(e);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t n)
{
    ENTER("cublasLtMatrixLayoutSetAttribute");
    if (!given(l, LAYOUT))
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return set(&l->type, sizeof l->type, value, n);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set(&l->order, sizeof l->order, value, n);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return set(&l->rows, sizeof l->rows, value, n);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return set(&l->cols, sizeof l->cols, value, n);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return set(&l->ld, sizeof l->ld, value, n);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set(&l->batch, sizeof l->batch, value, n);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set(&l->stride, sizeof l->stride, value, n);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    ENTER("cublasLtMatmulPreferenceCreate");
    if (!preference)
        return CUBLAS_STATUS_INVALID_VALUE;
    *preference = made(new cusim_matmul_preference, PREFERENCE);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    cudaError_t e = cusim_call("cublasLtMatmulPreferenceDestroy");
    destroy(preference, PREFERENCE);
    return status_of(e);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t n)
{
    ENTER("cublasLtMatmulPreferenceSetAttribute");
    if (!given(p, PREFERENCE))
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&p->workspace, sizeof p->workspace, value, n);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(&p->reduction, sizeof p->reduction, value, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&p->align[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], sizeof *p->align, value, n);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    ENTER("cublasLtMatmulAlgoGetHeuristic");
    if (!given(handle, HANDLE))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!given(preference, PREFERENCE) || wanted < 1 || !results || !found)
        return CUBLAS_STATUS_INVALID_VALUE;
    *found = 0;
    Problem p;
    cublasStatus_t status = understand(&p, desc, a, b, c, d);
    Algo algo;
    if (status != CUBLAS_STATUS_SUCCESS || !choose(&algo, p, *preference))
        return status;
    results[0] = {};
    memcpy(&results[0].algo, &algo, sizeof algo);
    results[0].workspaceSize = algo.workspace;
    results[0].wavesCount = 1;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *wanted, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    ENTER("cublasLtMatmul");
    if (!given(handle, HANDLE))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    Matmul call = {};
    cublasStatus_t status = understand(&call.p, desc, a, b, c, d);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (!alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    call.alpha = *static_cast<const float *>(alpha);
    call.beta = *static_cast<const float *>(beta);
    call.a = static_cast<const char *>(A);
    call.b = static_cast<const char *>(B);
    call.c = static_cast<const char *>(C);
    call.d = static_cast<char *>(D);
    call.workspace = workspace;
    call.workspace_bytes = workspace_bytes;
    Algo algo;
    if (wanted)
        memcpy(&algo, wanted, sizeof algo);
    else if (!default_algo(&algo, call))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algo.magic != MAGIC)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (algo.problem != fingerprint(call.p))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    status = check_pointers(algo, call);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    call.workspace_bytes = algo.workspace;
    return status_of(enqueue_work("cublasLtMatmul", stream, [=] { run(call); }));
}
}
