/* cusim_control.h - what a test can ask of the simulated device, as plain C.
 *
 * Calls are counted by name: a runtime call by its own ("cudaMalloc"), a launch by "launch" and, when the kernel runs, by "kernel NAME".
 * CPU stand-ins of a library count theirs by cusim_call(). NULL stands for every name. A run is a pure function of its inputs and of
 * CUSIM_SEED, so the nth call is the same one each time.
 */
#ifndef CUSIM_CONTROL_H
#define CUSIM_CONTROL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The nth call of that name from now (1: the next) returns error and does nothing, once; a call that frees does free. A kernel fails
   when it runs: from then on every call returns the error, as after a fault on hardware, until cudaDeviceReset. nth 0: nothing fails. */
void cusim_fail(const char *name, uint64_t nth, cudaError_t error);
/* The name of the call that was made to fail since then; NULL: none yet. */
const char *cusim_failed(void);

/* How often it was called since the start or the last cusim_reset_calls. */
uint64_t cusim_calls(const char *name);
void cusim_reset_calls(void);

/* For stand-ins: counts one call; cudaSuccess, or the error that it shall fail with. */
cudaError_t cusim_call(const char *name);

/* For stand-ins: queues function(data) on the stream as a kernel would be (captured too); data_bytes of data are copied. The function
   says what it touches by cusim_touch, so that the checker sees it: also the reads of bytes that nobody wrote. */
cudaError_t cusim_enqueue(const char *name, cudaStream_t stream, void (*function)(void *data), const void *data,
                          size_t data_bytes);
void cusim_touch(const void *p, size_t n, bool write);

/* The device: its memory in bytes (default CUSIM_MEMORY or 8 GiB), how many there are (default 1), what is allocated now. */
void cusim_set_memory(size_t bytes);
void cusim_set_devices(int n);
size_t cusim_memory_used(void);

/* How many streams, events, graphs, pinned blocks, library handles and descriptors there are now: to be the same before and after. */
size_t cusim_objects(void);

/* Which algorithms the stand-in of cuDNN has for recurrent layers: bit 1 << cudnnRNNAlgo_t. All, or CUSIM_RNN_ALGOS. */
void cusim_set_rnn_algos(unsigned algos);

/* Whether this build has the checker, and how many errors it found so far. */
bool cusim_checks(void);
int cusim_errors(void);
#ifdef __cplusplus
}
#endif
#endif
