// cluster.cpp - clusters: blocks that run at the same time, a barrier for all their threads, the shared memory of another block.
#include "internal.h"

namespace cusim
{
void cluster_init(Cluster &c, size_t number, std::vector<BlockImpl *> blocks)
{
    const unsigned threads = static_cast<unsigned>(blocks.size()) * grid->nthreads;
    c = {};
    c.number = static_cast<unsigned>(number);
    c.blocks = std::move(blocks);
    c.left = static_cast<unsigned>(c.blocks.size());
    c.alive = c.missing = threads;
    c.at.resize(threads);
}
static Cluster &cluster_of(const ThreadImpl *t, const char *what)
{
    Cluster *c = static_cast<BlockImpl *>(t->block)->cluster;
    if (!c)
        fail("%s in a kernel that was not launched in clusters", what);
    return *c;
}
unsigned cluster_rank()
{
    return blk()->num % grid->cluster;
}
static void all_arrived(Cluster &c)
{
    chk_cluster_done(c);
    c.phase++;
    c.missing = c.alive;
    std::vector<ThreadImpl *> waiting;
    waiting.swap(c.waiting);
    for (ThreadImpl *t : waiting)
        wake(t);
}
void cluster_arrive()
{
    ThreadImpl *t = self();
    Cluster &c = cluster_of(t, "barrier.cluster.arrive");
    if (t->arrived)
        fail("a second barrier.cluster.arrive before barrier.cluster.wait");
    t->arrived = true;
    t->arrived_phase = c.phase;
    chk_cluster_arrive(c);
    something_happened();
    if (--c.missing == 0)
        all_arrived(c);
}
void cluster_wait()
{
    ThreadImpl *t = self();
    Cluster &c = cluster_of(t, "barrier.cluster.wait");
    if (!t->arrived)
        fail("barrier.cluster.wait without barrier.cluster.arrive");
    if (c.phase == t->arrived_phase) {
        c.waiting.push_back(t);
        wait(S_CLUSTER, "barrier.cluster.wait", nullptr, 0);
    } else
        yield();
    t->arrived = false;
    chk_cluster_wait(c);
}
// A thread that has ended is no longer waited for.
void leave_cluster(ThreadImpl *t)
{
    Cluster &c = cluster_of(t, "");
    c.alive--;
    if (t->arrived && t->arrived_phase == c.phase)
        return;
    if (settings().strict && c.missing < c.alive + 1)
        fail("a thread left the kernel while others are at the cluster's barrier");
    if (--c.missing == 0 && c.alive)
        all_arrived(c);
}
static BlockImpl *peer_of(unsigned rank, const char *what)
{
    Cluster &c = cluster_of(self(), what);
    if (rank >= c.blocks.size())
        fail("%s: block %u of a cluster of %zu", what, rank, c.blocks.size());
    if (c.blocks[rank]->alive == 0)
        fail("%s: block %u of the cluster has left the kernel", what, rank);
    return c.blocks[rank];
}
void *cluster_map(const void *p, unsigned rank)
{
    return place_in(peer_of(rank, "mapa"), p, 1);
}
} // namespace cusim
