/* device.h - the device that a test runs on: the CPU, or what CRNN_TEST_DEVICE names (cpu or cuda; CTest runs some tests on both), with the
 * recurrent layer computed as CRNN_TEST_RNN_ALGO says. */
#ifndef CRNN_TESTS_DEVICE_H
#define CRNN_TESTS_DEVICE_H

#include <crnn/device.h>
#include <stdlib.h>
#include <string.h>

static inline crnn_device_config test_device(void)
{
    const char *name = getenv("CRNN_TEST_DEVICE");
    crnn_device_config config = crnn_device_config_default();
    config.kind = name && strcmp(name, "cuda") == 0 ? CRNN_DEVICE_CUDA : CRNN_DEVICE_CPU;
    if (getenv("CRNN_TEST_RNN_ALGO"))
        config.rnn_algo = getenv("CRNN_TEST_RNN_ALGO");
    return config;
}

#endif
