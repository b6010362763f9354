#include "host/base/rng.h"

uint64_t crnn_uniform_below(uint64_t seed, uint64_t stream, uint64_t *counter, uint64_t bound)
{
    /* The first 2^64 mod bound values are one too many for some remainders: draws among them are thrown away. */
    const uint64_t surplus = (0 - bound) % bound;
    for (;;) {
        crnn_philox4 draw = crnn_philox(seed, stream, (*counter)++);
        uint64_t bits = (uint64_t)draw.v[1] << 32 | draw.v[0];
        if (bits >= surplus)
            return bits % bound;
    }
}
