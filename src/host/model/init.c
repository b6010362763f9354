#include "host/model/init.h"
#include "host/base/rng.h"
#include <math.h>
#include <string.h>

static double initial_range(const crnn_tensor_info *tensor)
{
    if (strstr(tensor->name, "bias"))
        return 0;
    if (strstr(tensor->name, "embeddings"))
        return 0.05;
    return sqrt(6.0 / (double)(tensor->shape[0] + tensor->shape[1]));
}

void crnn_init_weights(float *canonical, const crnn_model_sizes *sizes, uint64_t seed)
{
    crnn_tensor_info tensors[3 + 3 * 64];
    int count = crnn_model_tensors(tensors, (int)(sizeof tensors / sizeof *tensors), sizes);
    for (int k = 0; k < count; k++) {
        float *w = canonical + tensors[k].offset;
        double range = initial_range(&tensors[k]);
        uint64_t stream = crnn_rng_stream(CRNN_RNG_INIT, (uint64_t)k);
        for (int64_t i = 0; i < tensors[k].count; i++) {
            uint32_t bits = crnn_philox(seed, stream, (uint64_t)i / 4).v[i % 4];
            w[i] = (float)(range * (2.0 * (double)crnn_u01(bits) - 1.0));
        }
    }
}
