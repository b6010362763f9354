/* fuzz.h - what the fuzzers share. Each has one entry, which libFuzzer calls, or replay.c for files that are there. */
#ifndef CRNN_TESTS_FUZZ_H
#define CRNN_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a regular file in memory with these contents; valid until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* Ends the program, so that the fuzzer keeps the input, where what always holds does not. */
#define ALWAYS(holds)                                                                                                  \
    do {                                                                                                               \
        if (!(holds))                                                                                                  \
            fuzz_stop(__FILE__, __LINE__, #holds);                                                                     \
    } while (0)
_Noreturn void fuzz_stop(const char *file, int line, const char *what);

#endif
