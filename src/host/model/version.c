#include <crnn/crnn.h>

const char *crnn_version(void)
{
    return CRNN_VERSION;
}
