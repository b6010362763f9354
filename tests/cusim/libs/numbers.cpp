// numbers.cpp - see numbers.h.
#include "numbers.h"

namespace cusim
{
size_t bytes_of(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : 0;
}

typedef float Four __attribute__((vector_size(16)));
static inline Four four(const float *p)
{
    Four v;
    memcpy(&v, p, sizeof v);
    return v;
}
// c [4][8] += the terms from..to of the sums
static void tile(float *c, size_t ldc, const Packed &a, const Packed &b, size_t i, size_t j, size_t from, size_t to)
{
    Four sum[4][2] = {};
    for (size_t k = from; k < to; k++) {
        const Four lo = four(b.row(k) + j), hi = four(b.row(k) + j + 4);
        for (size_t r = 0; r < 4; r++) {
            const float f = a.at[(i + r) * a.ld + k];
            sum[r][0] += f * lo;
            sum[r][1] += f * hi;
        }
    }
    for (size_t r = 0; r < 4; r++)
        for (size_t n = 0; n < 8; n++)
            c[r * ldc + n] += sum[r][n / 4][n % 4];
}
Packed product(const Packed &a, const Packed &b)
{
    // Sums of 256 terms are summed: the error of one long sum in float would be above a GPU's.
    const size_t chunk = 256;
    Packed c(a.rows, b.cols);
    for (size_t from = 0; from < a.cols; from += chunk)
        for (size_t j = 0; j < b.ld; j += 8)
            for (size_t i = 0; i < a.rows; i += 4)
                tile(c.row(i) + j, c.ld, a, b, i, j, from, std::min(from + chunk, a.cols));
    return c;
}
} // namespace cusim
