/* The stand-in for cuBLASLt: its products against plain loops, and what it refuses. */
#include "finds.h"
#include "numbers.h"

#include <cublasLt.h>
#include <stdlib.h>

static void is(cublasStatus_t status, cublasStatus_t wanted)
{
    if (status != wanted)
        fail_msg("%s, not %s", cublasLtGetStatusString(status), cublasLtGetStatusString(wanted));
}
static void ok(cublasStatus_t status)
{
    is(status, CUBLAS_STATUS_SUCCESS);
}
static const cublasStatus_t UNSUPPORTED = CUBLAS_STATUS_NOT_SUPPORTED, INVALID = CUBLAS_STATUS_INVALID_VALUE;

/* ---- one matrix on both sides; elements outside it stay as they are */
typedef struct {
    cudaDataType type;
    int order;
    size_t rows, cols, ld, batch, stride;
    char *host, *device;
    cublasLtMatrixLayout_t layout;
} matrix;
static size_t bytes(const matrix *m)
{
    return m->stride * m->batch * size_of(m->type);
}
static size_t at(const matrix *m, size_t batch, size_t i, size_t j)
{
    return batch * m->stride + (m->order == CUBLASLT_ORDER_COL ? j * m->ld + i : i * m->ld + j);
}
static matrix matrix_new(cudaDataType type, int order, size_t rows, size_t cols, size_t pad, size_t batch)
{
    matrix m = {type, order, rows, cols, (order == CUBLASLT_ORDER_COL ? rows : cols) + pad, batch, 0, NULL, NULL, NULL};
    m.stride = m.ld * (order == CUBLASLT_ORDER_COL ? cols : rows) + pad;
    m.host = malloc(bytes(&m));
    for (size_t i = 0; i < m.stride * batch; i++)
        put(m.host, type, i, ((double)draw(2001) - 1000) / 700);
    cuda(cudaMalloc((void **)&m.device, bytes(&m)));
    cuda(cudaMemcpy(m.device, m.host, bytes(&m), cudaMemcpyHostToDevice));
    int32_t n = (int32_t)batch;
    int64_t stride = (int64_t)m.stride;
    ok(cublasLtMatrixLayoutCreate(&m.layout, type, rows, cols, (int64_t)m.ld));
    ok(cublasLtMatrixLayoutSetAttribute(m.layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order));
    ok(cublasLtMatrixLayoutSetAttribute(m.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n));
    ok(cublasLtMatrixLayoutSetAttribute(m.layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
    return m;
}
static void matrix_free(matrix *m)
{
    ok(cublasLtMatrixLayoutDestroy(m->layout));
    cuda(cudaFree(m->device));
    free(m->host);
}

/* ---- a product with everything it needs */
typedef struct {
    int m, n, k, batch;
    bool ta, tb;
    int order_a, order_b, order_d, pad;
    cudaDataType in, out;
    cublasComputeType_t compute;
    uint32_t epilogue;
    float alpha, beta;
} shape;
static const shape plain = {
    5, 3, 7, 1, false, false, 0, 0, 0, 0, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT, 1, 0};
typedef struct {
    shape s;
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulPreference_t preference;
    matrix a, b, d, bias;
    cublasLtMatmulHeuristicResult_t found;
    void *workspace;
} problem;
enum { WORKSPACE = 1 << 20 };

static void set(problem *p, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t n)
{
    ok(cublasLtMatmulDescSetAttribute(p->desc, attribute, value, n));
}
static void set_alignment(problem *p, uint32_t align)
{
    for (int i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; i++)
        ok(cublasLtMatmulPreferenceSetAttribute(p->preference, (cublasLtMatmulPreferenceAttributes_t)i, &align,
                                                sizeof align));
}
static problem problem_new(shape s)
{
    problem p = {.s = s};
    size_t m = (size_t)s.m, n = (size_t)s.n, k = (size_t)s.k, batch = (size_t)s.batch, pad = (size_t)s.pad;
    uint64_t granted = WORKSPACE;
    int32_t ta = s.ta, tb = s.tb, type = (int32_t)s.out;
    ok(cublasLtCreate(&p.lt));
    ok(cublasLtMatmulDescCreate(&p.desc, s.compute, CUDA_R_32F));
    ok(cublasLtMatmulPreferenceCreate(&p.preference));
    p.a = matrix_new(s.in, s.order_a, s.ta ? k : m, s.ta ? m : k, pad, batch);
    p.b = matrix_new(s.in, s.order_b, s.tb ? n : k, s.tb ? k : n, pad, batch);
    p.d = matrix_new(s.out, s.order_d, m, n, pad, batch);
    p.bias = matrix_new(s.out, CUBLASLT_ORDER_COL, m > n ? m : n, 1, 0, 1);
    set(&p, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta);
    set(&p, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb);
    set(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, &s.epilogue, sizeof s.epilogue);
    set(&p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias.device, sizeof p.bias.device);
    set(&p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
    ok(cublasLtMatmulPreferenceSetAttribute(p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &granted,
                                            sizeof granted));
    cuda(cudaMalloc(&p.workspace, WORKSPACE));
    return p;
}
static void problem_free(problem *p)
{
    cuda(cudaDeviceSynchronize());
    cuda(cudaFree(p->workspace));
    matrix_free(&p->a);
    matrix_free(&p->b);
    matrix_free(&p->d);
    matrix_free(&p->bias);
    ok(cublasLtMatmulPreferenceDestroy(p->preference));
    ok(cublasLtMatmulDescDestroy(p->desc));
    ok(cublasLtDestroy(p->lt));
}
static cublasStatus_t ask(problem *p, int *found)
{
    return cublasLtMatmulAlgoGetHeuristic(p->lt, p->desc, p->a.layout, p->b.layout, p->d.layout, p->d.layout,
                                          p->preference, 1, &p->found, found);
}
static cublasStatus_t multiply_on(problem *p, const cublasLtMatmulAlgo_t *algo, size_t workspace, cudaStream_t stream)
{
    return cublasLtMatmul(p->lt, p->desc, &p->s.alpha, p->a.device, p->a.layout, p->b.device, p->b.layout, &p->s.beta,
                          p->d.device, p->d.layout, p->d.device, p->d.layout, algo, p->workspace, workspace, stream);
}
static cublasStatus_t multiply(problem *p, const cublasLtMatmulAlgo_t *algo, size_t workspace)
{
    return multiply_on(p, algo, workspace, NULL);
}
static double factor(const problem *p, const matrix *m, bool turned, size_t batch, size_t i, size_t j)
{
    double x = get(m->host, m->type, turned ? at(m, batch, j, i) : at(m, batch, i, j));
    cublasComputeType_t c = p->s.compute;
    return c == CUBLAS_COMPUTE_32F_FAST_TF32   ? with_bits(x, 11, -149)
           : c == CUBLAS_COMPUTE_32F_FAST_16F  ? as(x, CUDA_R_16F)
           : c == CUBLAS_COMPUTE_32F_FAST_16BF ? as(x, CUDA_R_16BF)
                                               : x;
}
/* The product in double, and how far a sum in float, and the result's own format, may be from it. */
static double expected(const problem *p, size_t batch, size_t i, size_t j, double *tolerance)
{
    double sum = 0, size = 0;
    for (size_t k = 0; k < (size_t)p->s.k; k++) {
        double term = factor(p, &p->a, p->s.ta, batch, i, k) * factor(p, &p->b, p->s.tb, batch, k, j);
        sum += term;
        size += fabs(term);
    }
    double before = get(p->d.host, p->s.out, at(&p->d, batch, i, j));
    sum = (double)p->s.alpha * sum + (double)p->s.beta * before;
    size = fabs((double)p->s.alpha) * size + fabs((double)p->s.beta * before);
    if (p->s.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        sum += get(p->bias.host, p->s.out, i);
        size += fabs(get(p->bias.host, p->s.out, i));
    }
    *tolerance = size * (p->s.k + 3) * 0x1p-24 + fabs(sum) * (p->s.out == CUDA_R_32F   ? 0x1p-24
                                                              : p->s.out == CUDA_R_16F ? 0x1p-11
                                                                                       : 0x1p-8);
    return sum;
}
static void expect_bias_gradient(const problem *p, const void *got)
{
    bool of_a = p->s.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    for (size_t i = 0; i < (size_t)(of_a ? p->s.m : p->s.n); i++) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < (size_t)p->s.k; k++) {
            double x = of_a ? factor(p, &p->a, p->s.ta, 0, i, k) : factor(p, &p->b, p->s.tb, 0, k, i);
            sum += x;
            size += fabs(x);
        }
        double tolerance = size * p->s.k * 0x1p-24 + fabs(sum) * (p->s.out == CUDA_R_32F ? 0x1p-24 : 0x1p-8);
        assert_true(fabs(get(got, p->s.out, i) - sum) <= tolerance);
    }
}
/* All of D's memory: the results, and what lies between its lines, which stays. */
static void expect_product(const problem *p)
{
    char *got = malloc(bytes(&p->d)), *is_result = calloc(p->d.stride * p->d.batch, 1), *bias = malloc(bytes(&p->bias));
    cuda(cudaMemcpy(got, p->d.device, bytes(&p->d), cudaMemcpyDeviceToHost));
    cuda(cudaMemcpy(bias, p->bias.device, bytes(&p->bias), cudaMemcpyDeviceToHost));
    for (size_t batch = 0; batch < p->d.batch; batch++)
        for (size_t i = 0; i < p->d.rows; i++)
            for (size_t j = 0; j < p->d.cols; j++) {
                double tolerance, x = expected(p, batch, i, j, &tolerance);
                double y = get(got, p->s.out, at(&p->d, batch, i, j));
                if (!(fabs(y - x) <= tolerance))
                    fail_msg("[%zu,%zu,%zu]: %.9g, not %.9g within %.2g", batch, i, j, y, x, tolerance);
                is_result[at(&p->d, batch, i, j)] = 1;
            }
    for (size_t i = 0; i < p->d.stride * p->d.batch; i++)
        if (!is_result[i])
            assert_memory_equal(got + i * size_of(p->s.out), p->d.host + i * size_of(p->s.out), size_of(p->s.out));
    if (p->s.epilogue == CUBLASLT_EPILOGUE_BGRADA || p->s.epilogue == CUBLASLT_EPILOGUE_BGRADB)
        expect_bias_gradient(p, bias);
    else
        assert_memory_equal(bias, p->bias.host, bytes(&p->bias));
    free(got);
    free(is_result);
    free(bias);
}
static void check_shape(shape s)
{
    problem p = problem_new(s);
    int found = 0;
    ok(ask(&p, &found));
    assert_int_equal(found, 1);
    ok(p.found.state);
    assert_true(p.found.workspaceSize <= WORKSPACE);
    ok(multiply(&p, &p.found.algo, p.found.workspaceSize));
    expect_product(&p);
    problem_free(&p);
}

static void products_are_those_of_plain_loops(void **state)
{
    (void)state;
    static const int sizes[] = {1, 2, 3, 5, 8, 13, 16, 31, 64, 83, 130, 300};
    static const struct {
        cudaDataType in, out;
        cublasComputeType_t compute;
    } kinds[] = {{CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                 {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
                 {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32},
                 {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_16F},
                 {CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_16BF},
                 {CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                 {CUDA_R_16BF, CUDA_R_16BF, CUBLAS_COMPUTE_32F},
                 {CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F},
                 {CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F}};
    for (unsigned i = 0; i < 200; i++) {
        shape s = plain;
        s.m = sizes[draw(11)];
        s.n = sizes[draw(9)];
        s.k = sizes[draw(12)];
        s.ta = draw(2);
        s.tb = draw(2);
        s.order_a = (int)draw(2);
        s.order_b = (int)draw(2);
        s.order_d = (int)draw(2);
        s.pad = draw(2) ? (int)draw(4) : 0;
        s.batch = draw(4) ? 1 : 3;
        s.in = kinds[i % 9].in;
        s.out = kinds[i % 9].out;
        s.compute = kinds[i % 9].compute;
        s.beta = draw(2) ? 0 : draw(2) ? 1 : -0.5F;
        s.alpha = draw(2) ? 1 : 0.25F;
        if (s.order_d == CUBLASLT_ORDER_COL && draw(2))
            s.epilogue = CUBLASLT_EPILOGUE_BIAS;
        check_shape(s);
    }
}
static void epilogues_that_sum_a_factor(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        shape s = plain;
        s.m = 13;
        s.n = 21;
        s.k = 1 + (int)draw(200);
        s.ta = i & 1;
        s.tb = i & 2;
        s.epilogue = i & 4 ? CUBLASLT_EPILOGUE_BGRADA : CUBLASLT_EPILOGUE_BGRADB;
        if (i & 8) {
            s.in = CUDA_R_16BF;
            s.out = CUDA_R_16BF;
        } else
            s.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
        check_shape(s);
    }
}
static void the_same_call_gives_the_same_bits(void **state)
{
    (void)state;
    shape s = plain;
    s.m = 33;
    s.k = 700;
    problem p = problem_new(s);
    char *first = malloc(bytes(&p.d)), *second = malloc(bytes(&p.d));
    for (int i = 0; i < 2; i++) {
        ok(multiply(&p, NULL, WORKSPACE));
        cuda(cudaMemcpy(i ? second : first, p.d.device, bytes(&p.d), cudaMemcpyDeviceToHost));
    }
    assert_memory_equal(first, second, bytes(&p.d));
    free(first);
    free(second);
    problem_free(&p);
}

static cublasStatus_t asked(shape s)
{
    problem p = problem_new(s);
    int found = -1;
    cublasStatus_t status = ask(&p, &found);
    assert_int_equal(found, status == CUBLAS_STATUS_SUCCESS);
    if (status != CUBLAS_STATUS_SUCCESS) /* the product itself refuses it likewise */
        is(multiply(&p, NULL, WORKSPACE), status);
    problem_free(&p);
    return status;
}
static void combinations_that_the_library_lacks(void **state)
{
    (void)state;
    shape s = plain;
    s.epilogue = CUBLASLT_EPILOGUE_BIAS;
    ok(asked(s));
    s.order_d = CUBLASLT_ORDER_ROW; /* as measured by others: mlx #2569, luminal #436 */
    is(asked(s), UNSUPPORTED);
    s = plain;
    s.epilogue = 3;
    is(asked(s), UNSUPPORTED);
    s.epilogue = CUBLASLT_EPILOGUE_BGRADA;
    s.batch = 2;
    is(asked(s), UNSUPPORTED);
    s = plain;
    s.in = CUDA_R_16BF;
    s.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    is(asked(s), UNSUPPORTED);
    s.compute = CUBLAS_COMPUTE_32F;
    s.out = CUDA_R_16F;
    is(asked(s), UNSUPPORTED);
    s = plain;
    s.out = CUDA_R_16BF;
    is(asked(s), UNSUPPORTED);
    s = plain;
    s.compute = (cublasComputeType_t)12;
    is(asked(s), UNSUPPORTED);
}
static void sizes_that_do_not_fit(void **state)
{
    (void)state;
    problem p = problem_new(plain),
            q = problem_new((shape){7, 3, 5, 1, .in = CUDA_R_32F, .compute = CUBLAS_COMPUTE_32F, .epilogue = 1});
    int found = -1, op = 9, batch = 2;
    int64_t ld = 4;
    uint64_t rows = 0;
    is(cublasLtMatmulAlgoGetHeuristic(p.lt, p.desc, q.a.layout, p.b.layout, p.d.layout, p.d.layout, p.preference, 1,
                                      &p.found, &found),
       INVALID);
    is(cublasLtMatmulAlgoGetHeuristic(p.lt, p.desc, p.a.layout, q.b.layout, p.d.layout, p.d.layout, p.preference, 1,
                                      &p.found, &found),
       INVALID);
    is(cublasLtMatmulAlgoGetHeuristic(p.lt, p.desc, p.a.layout, p.b.layout, q.d.layout, p.d.layout, p.preference, 1,
                                      &p.found, &found),
       INVALID);
    is(cublasLtMatmulAlgoGetHeuristic(p.lt, p.desc, p.a.layout, p.b.layout, p.d.layout, q.d.layout, p.preference, 1,
                                      &p.found, &found),
       INVALID);
    is(cublasLtMatmulAlgoGetHeuristic(p.lt, p.desc, p.a.layout, p.b.layout, p.d.layout, p.d.layout, p.preference, 0,
                                      &p.found, &found),
       INVALID);
    ok(cublasLtMatrixLayoutSetAttribute(p.a.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    is(ask(&p, &found), INVALID);
    ok(cublasLtMatrixLayoutSetAttribute(p.b.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    ok(cublasLtMatrixLayoutSetAttribute(p.d.layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    ok(ask(&p, &found));
    int64_t stride = 14; /* results that lie over one another: D has 15 elements */
    ok(cublasLtMatrixLayoutSetAttribute(p.d.layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                        sizeof stride));
    is(ask(&p, &found), INVALID);
    ok(cublasLtMatmulDescSetAttribute(q.desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op));
    is(ask(&q, &found), INVALID);
    op = CUBLAS_OP_N;
    ok(cublasLtMatmulDescSetAttribute(q.desc, CUBLASLT_MATMUL_DESC_TRANSA, &op, sizeof op));
    ok(ask(&q, &found));
    ok(cublasLtMatrixLayoutSetAttribute(q.a.layout, CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
    is(ask(&q, &found), INVALID);
    ok(cublasLtMatrixLayoutSetAttribute(q.d.layout, CUBLASLT_MATRIX_LAYOUT_ROWS, &rows, sizeof rows));
    is(ask(&q, &found), INVALID);
    assert_int_equal(found, 0);
    problem_free(&p);
    problem_free(&q);
}
/* As the library without a GPU: sizes are checked when an attribute is set, values are not. */
static void attributes_and_handles(void **state)
{
    (void)state;
    problem p = problem_new(plain);
    int32_t any = 99;
    int64_t wide = 1;
    int found;
    ok(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &any, sizeof any));
    is(ask(&p, &found), UNSUPPORTED);
    is(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide), INVALID);
    is(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &any, sizeof any), INVALID);
    is(cublasLtMatmulDescSetAttribute(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, NULL, sizeof any), INVALID);
    is(cublasLtMatmulDescSetAttribute(p.desc, (cublasLtMatmulDescAttributes_t)99, &any, sizeof any), INVALID);
    is(cublasLtMatmulDescSetAttribute(NULL, CUBLASLT_MATMUL_DESC_TRANSA, &any, sizeof any), INVALID);
    is(cublasLtMatrixLayoutSetAttribute(p.a.layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &wide, sizeof wide), INVALID);
    is(cublasLtMatrixLayoutSetAttribute(p.a.layout, (cublasLtMatrixLayoutAttribute_t)99, &any, sizeof any), INVALID);
    is(cublasLtMatmulPreferenceSetAttribute(p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &any, sizeof any),
       INVALID);
    is(cublasLtMatmulDescCreate(NULL, CUBLAS_COMPUTE_32F, CUDA_R_32F), INVALID);
    is(cublasLtMatrixLayoutCreate(NULL, CUDA_R_32F, 1, 1, 1), INVALID);
    is(cublasLtCreate(NULL), INVALID);
    is(cublasLtDestroy(NULL), INVALID);
    ok(cublasLtMatmulDescDestroy(NULL));
    ok(cublasLtMatrixLayoutDestroy(NULL));
    ok(cublasLtMatmulPreferenceDestroy(NULL));
    cublasLtHandle_t lt = p.lt;
    p.lt = NULL;
    is(ask(&p, &found), CUBLAS_STATUS_NOT_INITIALIZED);
    is(multiply(&p, NULL, 0), CUBLAS_STATUS_NOT_INITIALIZED);
    p.lt = lt;
    problem_free(&p);
}
static void an_algorithm_is_for_what_it_was_asked_for(void **state)
{
    (void)state;
    problem p = problem_new(plain);
    int found;
    ok(ask(&p, &found));
    cublasLtMatmulAlgo_t algo = p.found.algo, none = {{0}};
    ok(multiply(&p, &algo, 0));
    is(multiply(&p, &none, 0), INVALID);
    uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    set(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    is(multiply(&p, &algo, 0), UNSUPPORTED);
    void *nowhere = NULL;
    set(&p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &nowhere, sizeof nowhere);
    ok(ask(&p, &found));
    is(multiply(&p, &p.found.algo, 0), INVALID);
    problem_free(&p);
}
static void an_algorithm_needs_its_workspace(void **state)
{
    (void)state;
    shape s = plain;
    s.k = 500;
    problem p = problem_new(s);
    int found;
    ok(ask(&p, &found));
    size_t needed = p.found.workspaceSize;
    assert_true(needed > 0);
    is(multiply(&p, &p.found.algo, needed - 1), INVALID);
    void *workspace = p.workspace;
    p.workspace = NULL;
    is(multiply(&p, &p.found.algo, needed), INVALID);
    p.workspace = (char *)workspace + 4;
    is(multiply(&p, &p.found.algo, needed), INVALID);
    p.workspace = workspace;
    ok(multiply(&p, &p.found.algo, needed));
    uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE;
    ok(cublasLtMatmulPreferenceSetAttribute(p.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole,
                                            sizeof whole));
    ok(ask(&p, &found));
    assert_int_equal(p.found.workspaceSize, 0);
    problem_free(&p);
}
/* Pointers are promised an alignment when an algorithm is asked for: 256 bytes unless the preference says less. */
static void an_algorithm_wants_the_alignment_it_was_promised(void **state)
{
    (void)state;
    shape s = plain;
    s.m = 8; /* columns of 32 bytes */
    s.k = 8;
    problem p = problem_new(s);
    int found;
    ok(ask(&p, &found));
    char *d = p.d.device, *b = p.b.device;
    p.d.device += 4;
    is(multiply(&p, &p.found.algo, 0), INVALID);
    p.d.device = d;
    p.b.device += 8;
    is(multiply(&p, &p.found.algo, 0), INVALID);
    p.b.device = b;
    ok(multiply(&p, &p.found.algo, 0));
    set_alignment(&p, 4);
    ok(ask(&p, &found));
    p.b.device = NULL;
    is(multiply(&p, &p.found.algo, 0), INVALID);
    p.b.device = b;
    ok(multiply(&p, &p.found.algo, 0));
    set_alignment(&p, 2); /* no algorithm reads floats from there: that is no error, but none is found */
    ok(ask(&p, &found));
    assert_int_equal(found, 0);
    problem_free(&p);
}
static void a_result_in_place_has_one_layout(void **state)
{
    (void)state;
    shape s = plain;
    problem p = problem_new(s);
    s.pad = 3;
    problem q = problem_new(s);
    is(cublasLtMatmul(p.lt, p.desc, &s.alpha, p.a.device, p.a.layout, p.b.device, p.b.layout, &s.beta, p.d.device,
                      p.d.layout, p.d.device, q.d.layout, NULL, NULL, 0, NULL),
       INVALID);
    ok(cublasLtMatmul(p.lt, p.desc, &s.alpha, p.a.device, p.a.layout, p.b.device, p.b.layout, &s.beta, p.d.device,
                      p.d.layout, q.d.device, q.d.layout, NULL, NULL, 0, NULL));
    is(cublasLtMatmul(p.lt, p.desc, &s.alpha, p.a.device, p.a.layout, p.b.device, p.b.layout, NULL, p.d.device,
                      p.d.layout, q.d.device, q.d.layout, NULL, NULL, 0, NULL),
       INVALID);
    problem_free(&p);
    problem_free(&q);
}
static void products_take_their_turn_and_are_captured(void **state)
{
    (void)state;
    shape s = plain;
    s.beta = 1;
    problem p = problem_new(s);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    ok(multiply_on(&p, NULL, 0, stream));
    cuda(cudaStreamEndCapture(stream, &graph));
    cuda(cudaGraphInstantiate(&exec, graph, 0));
    p.s.beta = 3; /* the call took its factors when it was made */
    cuda(cudaMemcpy(p.d.device, p.d.host, bytes(&p.d), cudaMemcpyHostToDevice));
    cuda(cudaGraphLaunch(exec, stream));
    cuda(cudaStreamSynchronize(stream));
    p.s.beta = 1;
    expect_product(&p);
    cuda(cudaGraphExecDestroy(exec));
    cuda(cudaGraphDestroy(graph));
    cuda(cudaStreamDestroy(stream));
    problem_free(&p);
}
static void calls_fail_on_demand(void **state)
{
    (void)state;
    problem p = problem_new(plain);
    int found;
    cusim_fail("cublasLtMatmul", 2, cudaErrorLaunchFailure);
    ok(multiply(&p, NULL, 0));
    is(multiply(&p, NULL, 0), CUBLAS_STATUS_EXECUTION_FAILED);
    ok(multiply(&p, NULL, 0));
    cusim_fail("cublasLtMatmulAlgoGetHeuristic", 1, cudaErrorMemoryAllocation);
    is(ask(&p, &found), CUBLAS_STATUS_ALLOC_FAILED);
    ok(ask(&p, &found));
    cublasLtHandle_t lt = NULL;
    size_t objects = cusim_objects();
    cusim_fail("cublasLtCreate", 1, cudaErrorUnknown);
    is(cublasLtCreate(&lt), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_null(lt);
    assert_int_equal(cusim_objects(), objects);
    ok(cublasLtCreate(&lt));
    cusim_fail("cublasLtDestroy", 1, cudaErrorUnknown);
    is(cublasLtDestroy(lt), CUBLAS_STATUS_EXECUTION_FAILED); /* and is gone all the same */
    assert_int_equal(cusim_objects(), objects);
    cusim_fail("kernel cublasLtMatmul", 1, cudaErrorLaunchFailure); /* as it runs: the device is lost */
    ok(multiply(&p, NULL, 0));
    assert_string_equal(cudaGetErrorName(cudaDeviceSynchronize()), "cudaErrorLaunchFailure");
    is(multiply(&p, NULL, 0), CUBLAS_STATUS_EXECUTION_FAILED);
    cuda(cudaDeviceReset());
    problem_free(&p);
}

static void unwritten_factor(int *zeros)
{
    problem p = problem_new(plain);
    (void)zeros;
    (void)cudaMalloc((void **)&p.a.device, bytes(&p.a));
    (void)multiply(&p, NULL, 0);
}
static void factor_too_short(int *zeros)
{
    problem p = problem_new(plain);
    p.b.device = (char *)(zeros + 1024) - 80; /* 84 bytes are read */
    (void)multiply(&p, NULL, 0);
}
static void result_over_a_factor(int *zeros)
{
    problem p = problem_new(plain);
    (void)zeros;
    p.d.device = p.a.device;
    (void)multiply(&p, NULL, 0);
}
static void destroyed_layout(int *zeros)
{
    problem p = problem_new(plain);
    (void)zeros;
    (void)cublasLtMatrixLayoutDestroy(p.d.layout);
    (void)multiply(&p, NULL, 0);
}
static void two_streams(int *zeros)
{
    problem p = problem_new(plain);
    cudaStream_t one, two;
    (void)zeros;
    (void)cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    (void)cudaDeviceSynchronize();
    (void)multiply_on(&p, NULL, 0, one);
    (void)multiply_on(&p, NULL, 0, two);
}
static void mistakes_end_the_program(void **state)
{
    (void)state;
    finds(factor_too_short, "are not, or not all, in one allocation on the device", "");
    finds(result_over_a_factor, "the result lies over a factor", "cublasLtMatmul");
    finds(destroyed_layout, "no such matrix layout, or destroyed before", "");
    if (!cusim_checks())
        return;
    finds(unwritten_factor, "read of bytes that nobody wrote", "cublasLtMatmul");
    finds(two_streams, "data race: write after write", "cublasLtMatmul");
}
static int everything_was_given_back(void **state)
{
    (void)state;
    assert_int_equal(cusim_objects(), 0);
    assert_int_equal(cusim_memory_used(), 0);
    return cusim_errors();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_plain_loops),
        cmocka_unit_test(epilogues_that_sum_a_factor),
        cmocka_unit_test(the_same_call_gives_the_same_bits),
        cmocka_unit_test(combinations_that_the_library_lacks),
        cmocka_unit_test(sizes_that_do_not_fit),
        cmocka_unit_test(attributes_and_handles),
        cmocka_unit_test(an_algorithm_is_for_what_it_was_asked_for),
        cmocka_unit_test(an_algorithm_needs_its_workspace),
        cmocka_unit_test(an_algorithm_wants_the_alignment_it_was_promised),
        cmocka_unit_test(a_result_in_place_has_one_layout),
        cmocka_unit_test(products_take_their_turn_and_are_captured),
        cmocka_unit_test(calls_fail_on_demand),
        cmocka_unit_test(mistakes_end_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, everything_was_given_back);
}
