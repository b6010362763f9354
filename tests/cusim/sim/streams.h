// streams.h - a stream: work that is done at the latest when someone waits for it.
#pragma once
#include "internal.h"
#include <deque>

namespace cusim
{
struct Op {
    const char *name;
    std::function<void()> run;
    cudaEvent_t event; // waits until this record of the event is done
    uint64_t record;
    Order order;
};
} // namespace cusim

struct CUstream_st {
    std::deque<cusim::Op> q;
    bool nonblocking;
    unsigned id;
    std::vector<uint32_t> vc; // everything that is done before the next operation
    cusim::Capture *capture;  // where operations go instead of the queue
    std::vector<size_t> tips; // nodes that the next captured operation follows
};

namespace cusim
{
extern std::vector<cudaStream_t> &streams;
extern CUstream_st null_stream;
inline cudaStream_t real(cudaStream_t s)
{
    return s ? s : &null_stream;
}
cusim::Order next_order(cudaStream_t s);
void before_enqueue(cudaStream_t s);
void forget_capture(Capture *c);
void push_op(cudaStream_t s, Op op);
} // namespace cusim
