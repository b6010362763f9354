// cooperative_groups.h - what persistent kernels need of it: the grid and the block.
#pragma once
#include "cusim_device.h"

namespace cooperative_groups
{
struct grid_group {
    void sync(CUSIM_SITE) const
    {
        cusim::grid_sync(file, line);
    }
    unsigned long long thread_rank() const
    {
        const auto &g = *cusim::cur->block->grid;
        const auto &b = cusim::cur->block->idx;
        return (static_cast<unsigned long long>(b.z * g.gdim.y + b.y) * g.gdim.x + b.x) *
                   (g.bdim.x * g.bdim.y * g.bdim.z) +
               cusim::cur->rank;
    }
    unsigned long long num_threads() const
    {
        const auto &g = *cusim::cur->block->grid;
        return 1ull * g.gdim.x * g.gdim.y * g.gdim.z * g.bdim.x * g.bdim.y * g.bdim.z;
    }
};
inline grid_group this_grid()
{
    return {};
}
struct thread_block {
    void sync(CUSIM_SITE) const
    {
        __syncthreads(file, line);
    }
    unsigned thread_rank() const
    {
        return cusim::cur->rank;
    }
};
inline thread_block this_thread_block()
{
    return {};
}
} // namespace cooperative_groups
