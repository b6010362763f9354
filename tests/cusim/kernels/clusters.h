/* clusters.h - two kernels in clusters, which are right or have one mistake that the simulator must find. Pointers are the device's. */
#ifndef CUSIM_CLUSTERS_H
#define CUSIM_CLUSTERS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CLUSTER_RIGHT,
    /* The multicast: */
    CLUSTER_NO_WAIT,          /* the stage is read before the mbarrier's phase has ended */
    CLUSTER_WRONG_PARITY,     /* the phase before is waited for, which has ended long ago */
    CLUSTER_NO_BARRIER,       /* the stage is written again while other blocks may still read it */
    CLUSTER_NOT_TOLD,         /* a copy reports to another block's mbarrier which that one may not have made yet */
    CLUSTER_NO_INIT_FENCE,    /* the mbarrier is made, but not for copies */
    CLUSTER_NO_PROXY_FENCE,   /* the copy reads what threads wrote, without the fence for it */
    CLUSTER_TOO_MANY_BYTES,   /* more are expected than come */
    CLUSTER_TOO_FEW_BYTES,    /* more come than are expected */
    CLUSTER_SOURCE_TOO_EARLY, /* the copy's source is written again while it is on its way to another block */
    CLUSTER_LEAVES,           /* a block leaves without waiting for what comes */
    /* Another block's shared memory: */
    CLUSTER_WRITE_UNTOLD,   /* it is read without a barrier behind the writing */
    CLUSTER_LEAVES_WRITERS, /* a block leaves while others may still write there */
    CLUSTER_ARRIVES_TWICE,
    CLUSTER_WAITS_ALONE /* without having arrived */
} cluster_mistake;

enum { CLUSTER_ITEMS = 64 };
/* sums [clusters,CLUSTER_ITEMS]: element i is the sum over all blocks b of the grid's that share a cluster, and over rounds r, of
   1000 r + 100 b + i. x [blocks,CLUSTER_ITEMS] is where each block has its numbers; bulk copies bring them to the others. */
cudaError_t cluster_multicast(int *sums, int *x, int blocks, unsigned cluster, int rounds, cluster_mistake mistake);
/* The same for one round; each block writes its numbers to the others' shared memory. */
cudaError_t cluster_write_to_peers(int *sums, int blocks, unsigned cluster, cluster_mistake mistake);
#ifdef __cplusplus
}
#endif
#endif
