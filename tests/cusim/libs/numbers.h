// numbers.h - what the stand-ins share: number formats, a product, objects behind handles.
#pragma once
#include "../sim/internal.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <library_types.h>

namespace cusim
{
size_t bytes_of(cudaDataType type); // of one number; 0: a format that is not here

inline float load(const void *p, cudaDataType type, size_t i)
{
    if (type == CUDA_R_16F)
        return __half2float(static_cast<const __half *>(p)[i]);
    if (type == CUDA_R_16BF)
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
    return static_cast<const float *>(p)[i];
}
inline void store(void *p, cudaDataType type, size_t i, float f)
{
    if (type == CUDA_R_16F)
        static_cast<__half *>(p)[i] = __float2half_rn(f);
    else if (type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(p)[i] = __float2bfloat16(f);
    else
        static_cast<float *>(p)[i] = f;
}

// What a tensor core takes an operand for: the number itself, or one with 10 (tf32, fp16) or 7 (bf16) bits of fraction.
enum class Operand { EXACT, TF32, FP16, BF16 };
inline float rounded(float f, Operand to)
{
    if (to == Operand::FP16)
        return __half2float(__float2half_rn(f));
    if (to == Operand::BF16)
        return __bfloat162float(__float2bfloat16(f));
    const unsigned u = __float_as_uint(f);
    if (to == Operand::EXACT || (u & 0x7f800000u) == 0x7f800000u)
        return f;
    return __uint_as_float((u + 0xfffu + (u >> 13 & 1)) & ~0x1fffu);
}

// Row-major, ready for product(): rows padded to a multiple of 4, columns to one of 8, with zeros.
struct Packed {
    size_t rows, cols, ld;
    std::vector<float> at;
    Packed(size_t rows_, size_t cols_) : rows(rows_), cols(cols_), ld((cols_ + 7) / 8 * 8), at((rows_ + 3) / 4 * 4 * ld)
    {
    }
    float *row(size_t i)
    {
        return at.data() + i * ld;
    }
    const float *row(size_t i) const
    {
        return at.data() + i * ld;
    }
};
// value(i,j), rounded
template <class F> Packed pack(size_t rows, size_t cols, Operand to, F value)
{
    Packed p(rows, cols);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            p.row(i)[j] = rounded(value(i, j), to);
    return p;
}
Packed product(const Packed &a, const Packed &b); // in float, each sum in one order

// The objects that a library's handles and descriptors stand for. NULL is a bad argument, which a library reports; a pointer that is no
// object, or one that was destroyed, is a mistake that ends the program.
template <class T> bool given(const T *p, const char *what)
{
    if (p && !object_lives(p, what))
        fail("%p: no such %s, or destroyed before", static_cast<const void *>(p), what);
    return p;
}
template <class T> T *made(T *p, const char *what)
{
    object_made(p, what);
    return p;
}
template <class T> void destroy(T *p, const char *what)
{
    if (p) {
        object_gone(p, what);
        delete p;
    }
}
} // namespace cusim
