// cusim_cluster.h - clusters of blocks (compute capability 9.0): their barrier, shared memory of another block, barriers in shared memory
// that count bytes, and bulk copies that report to them. gpu.h has the same operations as PTX.
#pragma once
#include "cusim_types.h"

namespace cusim
{
unsigned cluster_rank();
void cluster_arrive(); // orders what was done before it before what comes after the others' cluster_wait()
void cluster_wait();
void *cluster_map(const void *p, unsigned rank); // mapa: the same place in the shared memory of another block
void mbarrier_init(uint64_t *barrier, unsigned arrivals);
void mbarrier_fence_init();
void mbarrier_arrive_expect(uint64_t *barrier, unsigned bytes);
void mbarrier_wait(uint64_t *barrier, unsigned parity);
void fence_proxy_async();
void bulk_multicast(void *to, const void *from, unsigned bytes, uint64_t *barrier, unsigned mask);
cudaError_t max_clusters(int *n, const void *fn, int threads, size_t smem, unsigned cluster);
} // namespace cusim
