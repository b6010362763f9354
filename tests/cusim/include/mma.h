// mma.h - tensor cores: wmma m16n16k16 in bf16, mma.sync m16n8k16 in bf16 and fp16, fp32 out, and ldmatrix.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cusim_warp.h"

namespace nvcuda
{
namespace wmma
{
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
// The hardware's element-to-lane map is opaque; here element e of lane l is number e*32+l in row order.
template <class Use, int M, int N, int K, class T, class L = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16, "only m16n16k16 is emulated");
    static constexpr int num_elements = 8;
    T x[8];
};
} // namespace wmma
} // namespace nvcuda
namespace cusim
{
struct WmmaSlot {
    const __nv_bfloat16 *a, *b;
    const float *c;
    float *d;
};
void wmma_exec(void **slots, unsigned mask);
inline void wmma_check(const void *p, unsigned ld, size_t elem)
{
    if (reinterpret_cast<uintptr_t>(p) % 32)
        fail("wmma: pointer %p is not 256-bit aligned", p);
    if (ld * elem % 16)
        fail("wmma: leading dimension %u x %zu bytes is no multiple of 16 bytes", ld, elem);
}
} // namespace cusim
namespace nvcuda
{
namespace wmma
{
template <class U, class T, class L>
void load_matrix_sync(fragment<U, 16, 16, 16, T, L> &f, const T *p, unsigned ld, CUSIM_SITE)
{
    cusim::wmma_check(p, ld, sizeof(T));
    __syncwarp(0xffffffffu, file, line);
    for (unsigned e = 0; e < 8; e++) {
        unsigned i = e * 32 + cusim::cur->lane, r = i / 16, c = i % 16;
        f.x[e] = std::is_same<L, row_major>::value ? p[r * ld + c] : p[c * ld + r];
    }
}
template <class T>
void store_matrix_sync(T *p, const fragment<accumulator, 16, 16, 16, T> &f, unsigned ld, layout_t lay, CUSIM_SITE)
{
    cusim::wmma_check(p, ld, sizeof(T));
    __syncwarp(0xffffffffu, file, line);
    for (unsigned e = 0; e < 8; e++) {
        unsigned i = e * 32 + cusim::cur->lane, r = i / 16, c = i % 16;
        p[lay == mem_row_major ? r * ld + c : c * ld + r] = f.x[e];
    }
}
template <class U, class T, class L> void fill_fragment(fragment<U, 16, 16, 16, T, L> &f, T v)
{
    for (T &x : f.x)
        x = v;
}
template <class LA, class LB>
void mma_sync(fragment<accumulator, 16, 16, 16, float> &d, const fragment<matrix_a, 16, 16, 16, __nv_bfloat16, LA> &a,
              const fragment<matrix_b, 16, 16, 16, __nv_bfloat16, LB> &b,
              const fragment<accumulator, 16, 16, 16, float> &c, CUSIM_SITE)
{
    cusim::WmmaSlot s{a.x, b.x, c.x, d.x};
    cusim::warp_meet(0xffffffffu, "wmma::mma_sync", 0, &s, cusim::wmma_exec, false, file, line);
}
} // namespace wmma
} // namespace nvcuda
// mma.sync.m16n8k16 (row.col) and ldmatrix, with the register layout of the PTX ISA.
namespace cusim
{
struct MmaSlot {
    const uint32_t *a, *b;
    const float *c;
    float *d;
};
void mma16816_exec(void **slots, unsigned mask);
void mma16816_f16_exec(void **slots, unsigned mask);
struct LdmSlot {
    const void *row;
    uint32_t *out;
    int n;
    bool trans;
};
void ldmatrix_exec(void **slots, unsigned mask);
void read_check(const void *p, size_t n); // tells the checker of a read made inside the simulator
inline void mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4], CUSIM_SITE)
{
    MmaSlot s{a, b, c, d};
    warp_meet(0xffffffffu, "mma.sync.m16n8k16", 0, &s, mma16816_exec, false, file, line);
}
inline void mma_m16n8k16_f16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4], CUSIM_SITE)
{
    MmaSlot s{a, b, c, d};
    warp_meet(0xffffffffu, "mma.sync.m16n8k16.f16", 0, &s, mma16816_f16_exec, false, file, line);
}
inline void ldmatrix(uint32_t *out, int n, bool trans, const void *row, CUSIM_SITE)
{
    if (reinterpret_cast<uintptr_t>(row) % 16)
        fail("ldmatrix: row address %p is not 16-byte aligned", row);
    if (cur->lane < 8u * static_cast<unsigned>(n))
        read_check(row, 16);
    LdmSlot s{row, out, n, trans};
    warp_meet(0xffffffffu, "ldmatrix", static_cast<unsigned>(n), &s, ldmatrix_exec, false, file, line);
}
} // namespace cusim
