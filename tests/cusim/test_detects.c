/* Each planted mistake ends a program, with a sentence that names it; the same program without the mistake ends well. */
#include "support/cmocka.h"

#include "finds.h"
#include "kernels/clusters.h"
#include "kernels/planted.h"
#include "kernels/samples.h"
#include <stdlib.h>

#define MISTAKE(name, call)                                                                                            \
    static void name(int *p)                                                                                           \
    {                                                                                                                  \
        (void)p;                                                                                                       \
        (void)(call);                                                                                                  \
    }
MISTAKE(two_barriers, planted_two_barriers(NULL))
MISTAKE(barrier_after_exit, planted_barrier_after_exit(p))
MISTAKE(barrier_skipped, planted_barrier_skipped(p))
MISTAKE(lane_outside_its_mask, planted_lane_outside_its_mask(p))
MISTAKE(shuffle_from_outside, planted_shuffle_from_outside(p))
MISTAKE(half_a_warp_waits, planted_half_a_warp_waits(p))
MISTAKE(grid_barrier, planted_grid_barrier_without_cooperation())
MISTAKE(no_shared_memory, planted_no_shared_memory(p))
MISTAKE(misaligned_ldmatrix, planted_misaligned_ldmatrix(p))
MISTAKE(block_race, planted_block_race(p))
MISTAKE(shared_race, planted_shared_race(p))
MISTAKE(shared_reuse, planted_shared_reuse(p))
MISTAKE(warp_race, planted_warp_race(p))
MISTAKE(float_atomic, planted_float_atomic_as_flag((float *)p, p + 8))
MISTAKE(hand_over, planted_hand_over(p, (unsigned *)p + 64))
MISTAKE(words_read, planted_words(p, (unsigned *)p + 64, 1))
MISTAKE(words_right, planted_words(p, (unsigned *)p + 64, 0))
MISTAKE(copy_wait, planted_copy_wait(p, p + 128))
MISTAKE(out_of_bounds, planted_copy(p, p + 1024 - 16, 17, NULL))
MISTAKE(misaligned_load, planted_misaligned_load((float *)p, (float *)p + 4))
MISTAKE(shared_bounds, planted_shared_bounds(p))
MISTAKE(stack_of_another, planted_stack_of_another(p))
#define CLUSTER_MISTAKE(name, which) MISTAKE(name, cluster_multicast(p, p + 512, 2, 2, 3, which))
CLUSTER_MISTAKE(no_wait, CLUSTER_NO_WAIT)
CLUSTER_MISTAKE(wrong_parity, CLUSTER_WRONG_PARITY)
CLUSTER_MISTAKE(no_cluster_barrier, CLUSTER_NO_BARRIER)
CLUSTER_MISTAKE(mbarrier_not_told, CLUSTER_NOT_TOLD)
CLUSTER_MISTAKE(no_init_fence, CLUSTER_NO_INIT_FENCE)
CLUSTER_MISTAKE(no_proxy_fence, CLUSTER_NO_PROXY_FENCE)
CLUSTER_MISTAKE(too_many_bytes, CLUSTER_TOO_MANY_BYTES)
CLUSTER_MISTAKE(too_few_bytes, CLUSTER_TOO_FEW_BYTES)
CLUSTER_MISTAKE(source_too_early, CLUSTER_SOURCE_TOO_EARLY)
CLUSTER_MISTAKE(leaves, CLUSTER_LEAVES)
MISTAKE(write_untold, cluster_write_to_peers(p, 4, 4, CLUSTER_WRITE_UNTOLD))
MISTAKE(leaves_writers, cluster_write_to_peers(p, 4, 4, CLUSTER_LEAVES_WRITERS))
MISTAKE(arrives_twice, cluster_write_to_peers(p, 4, 4, CLUSTER_ARRIVES_TWICE))
MISTAKE(waits_alone, cluster_write_to_peers(p, 4, 4, CLUSTER_WAITS_ALONE))

static void host_pointer(int *p)
{
    static int *x;
    x = calloc(32, sizeof *x);
    (void)planted_copy(p, x, 32, NULL);
}
static void unwritten(int *p)
{
    int *x = NULL;
    (void)cudaMalloc((void **)&x, 128);
    (void)planted_copy(p, x, 32, NULL);
}
static void freed(int *p)
{
    int *x = NULL;
    (void)cudaMalloc((void **)&x, 128);
    (void)cudaMemset(x, 0, 128);
    (void)cudaFree(x);
    (void)planted_copy(p, x, 32, NULL);
}
static void freed_twice(int *p)
{
    (void)cudaFree(p);
    (void)cudaFree(p);
}

static void barriers_and_warp_operations_that_do_not_match(void **state)
{
    (void)state;
    finds(two_barriers, "threads of one block meet at different barriers", "planted.cu");
    finds(barrier_after_exit, "__syncthreads at", "planted.cu");
    finds(barrier_skipped, "deadlock", "planted.cu");
    finds(lane_outside_its_mask, "is not in its own mask", "planted.cu");
    finds(shuffle_from_outside, "which takes no part", "shuffle_from_outside");
    finds(half_a_warp_waits, "while other lanes", "planted.cu");
    finds(grid_barrier, "was not launched cooperatively", "grid_barrier");
    finds(no_shared_memory, "launched with 0 bytes", "use_dynamic");
    finds(misaligned_ldmatrix, "not 16-byte aligned", "misaligned_ldmatrix");
    finds(freed_twice, "freed before", "cudaFree");
}

static void needs_the_checker(void)
{
    if (!cusim_checks())
        skip();
}
static void races_within_a_grid(void **state)
{
    (void)state;
    needs_the_checker();
    finds(block_race, "data race: write after write", "planted.cu");
    finds(shared_race, "data race: ", "planted.cu"); /* which is first depends on the schedule */
    finds(shared_reuse, "data race: ", "planted.cu");
    finds(warp_race, "data race: ", "planted.cu");
    finds(float_atomic, "data race: ", "planted.cu");
    finds(hand_over, "data race: read after write", "planted.cu");
    finds(words_read, "data race: read after write", "planted.cu");
    assert_int_equal(status_of(words_right), 0);
    finds(copy_wait, "bytes that nobody wrote", "planted.cu");
}
static void clusters_that_do_not_fit_together(void **state)
{
    (void)state;
    finds(no_init_fence, "without fence.mbarrier_init", "multicast_kernel");
    finds(too_many_bytes, "0 arrival(s) and 16 bytes to come", "deadlock in kernel multicast_kernel");
    finds(too_few_bytes, "16 bytes more than it was told to expect", "multicast_kernel");
    finds(leaves, "leaves the kernel while a bulk copy of block", "multicast_kernel");
    finds(leaves_writers, "left the kernel", "write_to_peers_kernel");
    finds(arrives_twice, "a second barrier.cluster.arrive", "write_to_peers_kernel");
    finds(waits_alone, "barrier.cluster.wait without barrier.cluster.arrive", "write_to_peers_kernel");
    needs_the_checker();
    finds(no_wait, "data race: read after write by a bulk copy of block", "clusters.cu");
    finds(wrong_parity, "by a bulk copy of block", "clusters.cu");
    finds(no_cluster_barrier, "data race: write after read", "clusters.cu");
    finds(mbarrier_not_told, "data race: read after write", "clusters.cu");
    finds(no_proxy_fence, "no fence.proxy.async came between", "clusters.cu");
    finds(source_too_early, "data race: write after read by a bulk copy", "clusters.cu");
    finds(write_untold, "data race: ", "clusters.cu");
}
static void memory_that_is_not_there(void **state)
{
    (void)state;
    needs_the_checker();
    finds(out_of_bounds, "read of 4 bytes out of bounds", "planted.cu");
    finds(shared_bounds, "write of 4 bytes out of bounds", "dynamic shared memory");
    finds(freed, "in freed memory", "planted.cu");
    finds(host_pointer, "at host memory", "planted.cu");
    finds(stack_of_another, "another thread's stack", "planted.cu");
    finds(unwritten, "bytes that nobody wrote", "planted.cu");
    finds(misaligned_load, "misaligned access of 16 bytes", "planted.cu");
}

/* Two streams on one array: with an event between them (or the host waiting) all is well, without it is a race. */
static enum { NOTHING, EVENT, HOST_WAITS, WRONG_WAY } order;
static void two_streams(int *p)
{
    cudaStream_t one, two;
    cudaEvent_t event;
    (void)cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (order == WRONG_WAY) /* recorded before the work that it is to stand for */
        (void)cudaEventRecord(event, one);
    (void)sample_add(p, p + 64, 32, one);
    if (order == EVENT)
        (void)cudaEventRecord(event, one);
    if (order == HOST_WAITS)
        (void)cudaStreamSynchronize(one);
    if (order == EVENT || order == WRONG_WAY)
        (void)cudaStreamWaitEvent(two, event, 0);
    (void)sample_add(p + 128, p, 32, two);
    (void)cudaDeviceSynchronize();
}
static void copy_beside_a_kernel(int *p)
{
    cudaStream_t one, two;
    static int host[32];
    (void)cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    (void)sample_add(p, p + 64, 32, one);
    (void)cudaMemcpyAsync(host, p, sizeof host, cudaMemcpyDeviceToHost, two);
    (void)cudaDeviceSynchronize();
}
static void graph_with_two_arms(int *p)
{
    cudaStream_t one, two;
    cudaEvent_t fork_event, join_event;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    (void)cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&fork_event, cudaEventDisableTiming);
    (void)cudaEventCreateWithFlags(&join_event, cudaEventDisableTiming);
    (void)cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal);
    (void)cudaEventRecord(fork_event, one);
    (void)cudaStreamWaitEvent(two, fork_event, 0);
    (void)sample_add(p, p + 64, 32, one);
    if (order == EVENT) { /* the second arm follows the first */
        (void)cudaEventRecord(fork_event, one);
        (void)cudaStreamWaitEvent(two, fork_event, 0);
    }
    (void)sample_add(p + 128, p, 32, two);
    (void)cudaEventRecord(join_event, two);
    (void)cudaStreamWaitEvent(one, join_event, 0);
    if (cudaStreamEndCapture(one, &graph) == cudaSuccess && cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess) {
        (void)cudaGraphLaunch(exec, one);
        (void)cudaGraphLaunch(exec, one); /* launches of one stream follow each other */
    }
    (void)cudaDeviceSynchronize();
}
static void is_well(void (*run)(int *p))
{
    int status = status_of(run);
    if (status != 0)
        fail_msg("status %d:\n%s", status, said);
}
static void streams_that_nothing_orders(void **state)
{
    (void)state;
    order = EVENT;
    is_well(two_streams);
    is_well(graph_with_two_arms);
    order = HOST_WAITS;
    is_well(two_streams);
    needs_the_checker();
    order = NOTHING;
    finds(two_streams, "no event or wait orders", "add_kernel");
    finds(graph_with_two_arms, "no event or wait orders", "add_kernel");
    finds(copy_beside_a_kernel, "no event or wait orders", "data race");
    order = WRONG_WAY;
    finds(two_streams, "no event or wait orders", "add_kernel");
}

/* The environment is read when a program starts, so this one starts itself again. */
static void the_environment_makes_a_call_fail(void **state)
{
    (void)state;
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(n > 0);
    program[n] = 0;
    const char *plans[] = {"cudaMalloc:2", "cudaMalloc:1", "3", "1", "cudaMalloc:9"};
    const int failing[] = {2, 1, 3, 1, 0};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        pid_t child = fork();
        if (child == 0) {
            setenv("CUSIM_FAIL", plans[i], 1);
            execl(program, program, "which-allocation-fails", (char *)NULL);
            _exit(99);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), failing[i]);
    }
}
/* Of three allocations, 0 for none. */
static int which_allocation_fails(void)
{
    int failed = 0;
    void *kept[3];
    for (int i = 1; i <= 3; i++) {
        void *p = NULL;
        if (cudaMalloc(&p, 16) != cudaSuccess)
            failed = i;
        kept[i - 1] = p;
    }
    for (int i = 0; i < 3; i++)
        (void)cudaFree(kept[i]);
    return failed;
}

static void launches_beyond_the_device_are_refused(void **state)
{
    (void)state;
    int *p = NULL;
    assert_int_equal(cudaMalloc((void **)&p, 4096), cudaSuccess);
    assert_int_equal(planted_big_block(), cudaErrorInvalidConfiguration);
    assert_int_equal(planted_big_shared_memory(p), cudaErrorInvalidValue);
    assert_int_equal(planted_shared_memory_beside_its_own(p, 232448 - 4096), cudaSuccess);
    assert_int_equal(planted_shared_memory_beside_its_own(p, 232448 - 4096 + 1), cudaErrorInvalidValue);
    assert_int_equal(planted_big_cooperation(), cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(cluster_multicast(p, p, 16, 16, 1, CLUSTER_RIGHT), cudaErrorInvalidClusterSize);
    assert_int_equal(cluster_multicast(p, p, 5, 2, 1, CLUSTER_RIGHT), cudaErrorInvalidClusterSize);
    assert_int_equal(cluster_multicast(p, p, 4000, 4, 1, CLUSTER_RIGHT), cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(cudaGetLastError(), cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaFree(p), cudaSuccess);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "which-allocation-fails") == 0)
        return which_allocation_fails();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_and_warp_operations_that_do_not_match),
        cmocka_unit_test(races_within_a_grid),
        cmocka_unit_test(clusters_that_do_not_fit_together),
        cmocka_unit_test(memory_that_is_not_there),
        cmocka_unit_test(streams_that_nothing_orders),
        cmocka_unit_test(the_environment_makes_a_call_fail),
        cmocka_unit_test(launches_beyond_the_device_are_refused),
    };
    return cmocka_run_group_tests_name("mistakes that the simulator finds", tests, NULL, NULL);
}
