// gru.cpp - the GRU of cuDNN's stand-in. For each unit, with W of the input x and R of the state h before:
//     r = sigmoid(Wr x + Rr h + br + b'r)     z = sigmoid(Wz x + Rz h + bz + b'z)
//     n = tanh(Wn x + bn + r (Rn h + b'n))    h' = (1 - z) n + z h
//
// The reserve space goes from forward to backward data to backward weights. It holds a stamp, then for each layer and step, by sequence,
// r, z, n and Rn h + b'n, which backward data turns into the gradients of r, z, n and of Rn h + b'n before their functions are taken; then
// what the lower layers gave. The stamp says for which network and step it was written and has a sum over all of it.
#include "cudnn_rnn.h"
#include <cstring>

namespace cusim
{
static const size_t R = 0, Z = 1, N = 2, HN = 3;

// ---- where things lie
Weights weights_at(const Gru &g, size_t layer, size_t gate)
{
    static const size_t order[] = {4, 0, 5, 2, 1, 3};
    const size_t gap = 3; // nothing lies on a round address
    size_t at = gap;
    for (size_t l = g.L; l-- > 0;)
        for (size_t id : order) {
            const size_t bias = at, matrix = bias + g.H + gap;
            if (l == layer && id == gate)
                return {matrix, bias};
            at = matrix + g.H * (id < 3 ? g.inputs(l) : g.H) + gap;
        }
    return {at, at}; // the end
}
size_t weight_bytes(const Gru &g)
{
    return (weights_at(g, g.L, 0).matrix * g.size() + 15) / 16 * 16;
}
size_t workspace_bytes(const Gru &g)
{
    return sizeof(float) * g.B * g.H * (3 * g.T + 4);
}
struct Stamp {
    char text[16];
    uint64_t stage, network[6], sum;
};
static const char FORWARD[] = "cudnnRNNForward", DATA[] = "cudnnRNNBackwardData_v8";
struct Reserve {
    Stamp *stamp;
    float *gates, *between; // [L,T,B,4,H], [L-1,T,B,H]
    size_t numbers;
    Reserve(const Gru &g, void *p)
        : stamp(static_cast<Stamp *>(p)), gates(reinterpret_cast<float *>(stamp + 1)),
          between(gates + g.L * g.T * g.B * 4 * g.H), numbers((5 * g.L - 1) * g.T * g.B * g.H)
    {
    }
};
size_t reserve_bytes(const Gru &g)
{
    return (sizeof(Stamp) + sizeof(float) * Reserve(g, nullptr).numbers + 15) / 16 * 16;
}
static Stamp stamp_of(const Gru &g, const Reserve &reserve, uint64_t stage)
{
    Stamp s = {"reserve of a rn", stage, {g.T, g.B, g.I, g.H, g.L, static_cast<uint64_t>(g.type)}, 0xcbf29ce484222325};
    for (size_t i = 0; i < reserve.numbers; i++)
        s.sum = (s.sum ^ __float_as_uint(reserve.gates[i])) * 0x100000001b3;
    return s;
}
static void expect_stamp(const Gru &g, const Reserve &reserve, uint64_t stage)
{
    const Stamp s = stamp_of(g, reserve, stage);
    if (memcmp(&s, reserve.stamp, sizeof s))
        fail("%s: the reserve space is not as %s left it for this network", g.call, stage == 1 ? FORWARD : DATA);
}

// ---- what a call touches
struct Region {
    const char *what;
    const void *at; // NULL: none
    size_t bytes;
    bool write;
};
static void touch(const Gru &g, const std::vector<Region> &regions)
{
    auto lie_over = [](const Region &a, const Region &b) {
        const char *p = static_cast<const char *>(a.at), *q = static_cast<const char *>(b.at);
        return p && q && p < q + b.bytes && q < p + a.bytes;
    };
    for (const Region &a : regions)
        for (const Region &b : regions)
            if (&a != &b && a.write && lie_over(a, b))
                fail("%s: %s lies over %s", g.call, a.what, b.what);
    for (const Region &r : regions)
        if (r.at)
            cusim_touch(r.at, r.bytes, r.write);
}
static void touch_weights(const Gru &g, const void *space, bool write)
{
    const char *at = static_cast<const char *>(space);
    for (size_t l = 0; l < g.L; l++)
        for (size_t gate = 0; gate < 6; gate++) {
            const Weights w = weights_at(g, l, gate);
            cusim_touch(at + w.bias * g.size(), g.H * g.size(), write);
            cusim_touch(at + w.matrix * g.size(), g.H * (gate < 3 ? g.inputs(l) : g.H) * g.size(), write);
        }
}
static size_t sequences(const Gru &g, size_t vector)
{
    return g.T * g.B * vector * g.size();
}
static size_t states(const Gru &g)
{
    return g.L * g.B * g.H * g.size();
}
static void begin(const Gru &g, const Space &workspace, const int32_t *lengths)
{
    memset(workspace.at, 0xff, workspace.bytes); // nothing is kept there from call to call
    for (size_t b = 0; lengths && b < g.B; b++)
        if (static_cast<size_t>(lengths[b]) != g.T)
            fail("%s: sequence %zu is of length %d on the device, of %zu in the descriptor", g.call, b, lengths[b],
                 g.T);
}

// ---- numbers of the caller
static size_t row_of(const Gru &g, size_t i) // i = t B + b
{
    return g.batch_major ? i % g.B * g.T + i / g.B : i;
}
static Packed read_rows(const Gru &g, const void *p, size_t vector)
{
    return pack(g.T * g.B, vector, Operand::EXACT,
                [&](size_t i, size_t j) { return load(p, g.type, row_of(g, i) * vector + j); });
}
static void write_rows(const Gru &g, void *p, const Packed &rows)
{
    for (size_t i = 0; i < rows.rows; i++)
        for (size_t j = 0; j < rows.cols; j++)
            store(p, g.type, row_of(g, i) * rows.cols + j, rows.row(i)[j]);
}
static Packed read_state(const Gru &g, const void *p, size_t layer)
{
    return pack(g.B, g.H, Operand::EXACT,
                [&](size_t b, size_t j) { return p ? load(p, g.type, (layer * g.B + b) * g.H + j) : 0.0f; });
}
static void write_state(const Gru &g, void *p, size_t layer, const Packed &state)
{
    for (size_t b = 0; p && b < g.B; b++)
        for (size_t j = 0; j < g.H; j++)
            store(p, g.type, (layer * g.B + b) * g.H + j, state.row(b)[j]);
}
// Rows are the units of the three gates one after the other, [3H, inputs]; or turned, [inputs, 3H].
static Packed matrices(const Gru &g, const void *weights, size_t layer, bool recurrent, bool turned)
{
    const size_t inputs = recurrent ? g.H : g.inputs(layer);
    size_t at[3];
    for (size_t k = 0; k < 3; k++)
        at[k] = weights_at(g, layer, k + (recurrent ? 3 : 0)).matrix;
    auto value = [&](size_t unit, size_t i) { return load(weights, g.type, at[unit / g.H] + unit % g.H * inputs + i); };
    return turned ? pack(inputs, 3 * g.H, g.operand, [&](size_t i, size_t unit) { return value(unit, i); })
                  : pack(3 * g.H, inputs, g.operand, value);
}
static std::vector<float> biases(const Gru &g, const void *weights, size_t layer, bool recurrent)
{
    std::vector<float> b;
    for (size_t unit = 0; unit < 3 * g.H; unit++)
        b.push_back(load(weights, g.type, weights_at(g, layer, unit / g.H + (recurrent ? 3 : 0)).bias + unit % g.H));
    return b;
}
static Packed rounded(const Packed &p, Operand to)
{
    return pack(p.rows, p.cols, to, [&](size_t i, size_t j) { return p.row(i)[j]; });
}
static float stored(const Gru &g, float f) // as the sequences hold it
{
    return g.type == CUDA_R_16F ? rounded(f, Operand::FP16) : g.type == CUDA_R_16BF ? rounded(f, Operand::BF16) : f;
}

// ---- forward
static float sigmoid(float x)
{
    return 1.0f / (1.0f + std::exp(-x));
}
// One layer: its outputs [TB,H]; h becomes the last state; keep: the layer's gates in the reserve space, or NULL.
static Packed forward(const Gru &g, const Packed &x, Packed *h, const void *weights, size_t layer, float *keep)
{
    const size_t H = g.H;
    const Packed from_x = product(rounded(x, g.operand), matrices(g, weights, layer, false, true));
    const Packed recurrent = matrices(g, weights, layer, true, true);
    const std::vector<float> bx = biases(g, weights, layer, false), bh = biases(g, weights, layer, true);
    Packed y(g.T * g.B, H);
    for (size_t i = 0; i < g.T * g.B; i += g.B) {
        const Packed from_h = product(rounded(*h, g.operand), recurrent);
        for (size_t b = 0; b < g.B; b++) {
            const float *px = from_x.row(i + b), *ph = from_h.row(b);
            for (size_t j = 0; j < H; j++) {
                const float r = sigmoid(px[j] + bx[j] + ph[j] + bh[j]);
                const float z = sigmoid(px[H + j] + bx[H + j] + ph[H + j] + bh[H + j]);
                const float hn = ph[2 * H + j] + bh[2 * H + j];
                const float n = std::tanh(px[2 * H + j] + bx[2 * H + j] + r * hn);
                const float values[] = {r, z, n, hn};
                for (size_t k = 0; keep && k < 4; k++)
                    keep[((i + b) * 4 + k) * H + j] = values[k];
                float &state = h->row(b)[j];
                state = stored(g, (1.0f - z) * n + z * state);
                y.row(i + b)[j] = state;
            }
        }
    }
    return y;
}
void run(const ForwardCall &c)
{
    const Gru &g = c.g;
    touch(g, {{"x", c.x, sequences(g, g.I), false},
              {"y", c.y, sequences(g, g.H), true},
              {"hx", c.hx, states(g), false},
              {"hy", c.hy, states(g), true},
              {"the workspace", c.workspace.at, c.workspace.bytes, true},
              {"the reserve space", c.reserve.bytes ? c.reserve.at : nullptr, c.reserve.bytes, true}});
    touch_weights(g, c.weights, false);
    begin(g, c.workspace, c.lengths);
    const bool training = c.reserve.bytes > 0;
    Reserve reserve(g, training ? c.reserve.at : nullptr);
    const size_t rows = g.T * g.B;
    Packed x = read_rows(g, c.x, g.I);
    for (size_t l = 0; l < g.L; l++) {
        Packed h = read_state(g, c.hx, l);
        x = forward(g, x, &h, c.weights, l, training ? reserve.gates + l * rows * 4 * g.H : nullptr);
        write_state(g, c.hy, l, h);
        for (size_t i = 0; training && l + 1 < g.L && i < rows; i++)
            memcpy(reserve.between + (l * rows + i) * g.H, x.row(i), g.H * sizeof(float));
    }
    write_rows(g, c.y, x);
    if (training)
        *reserve.stamp = stamp_of(g, reserve, 1);
}

// ---- backward
// What layer l gave: of the last one the caller has it.
static Packed outputs(const Gru &g, const Reserve &reserve, const void *y, size_t layer)
{
    if (layer + 1 == g.L)
        return read_rows(g, y, g.H);
    const float *at = reserve.between + layer * g.T * g.B * g.H;
    return pack(g.T * g.B, g.H, Operand::EXACT, [&](size_t i, size_t j) { return at[i * g.H + j]; });
}
// The gates' gradients, the three of the input or of the state, [TB,3H] or one step's [B,3H].
static Packed gate_gradients(const Gru &g, const float *keep, size_t rows, bool recurrent)
{
    return pack(rows, 3 * g.H, Operand::EXACT, [&](size_t i, size_t j) {
        const size_t k = j / g.H == 2 && recurrent ? HN : j / g.H;
        return keep[(i * 4 + k) * g.H + j % g.H];
    });
}
// One step of one sequence: d, the gradient of its state, becomes what passes by z; keep becomes the gates' gradients.
static void gates_backward(float *keep, float *d, const float *h_before, size_t H)
{
    for (size_t j = 0; j < H; j++) {
        float &r = keep[R * H + j], &z = keep[Z * H + j], &n = keep[N * H + j], &hn = keep[HN * H + j];
        const float dn = d[j] * (1.0f - z) * (1.0f - n * n), dz = d[j] * (h_before[j] - n) * z * (1.0f - z);
        const float dr = dn * hn * r * (1.0f - r), dhn = dn * r;
        d[j] *= z;
        r = dr;
        z = dz;
        n = dn;
        hn = dhn;
    }
}
// One layer: dy [TB,H] of its outputs, dh of its last state, which becomes that of its first; the result is that of its inputs.
static Packed backward(const Gru &g, const Packed &dy, Packed *dh, const Packed &y, const Packed &h_first,
                       const void *weights, size_t layer, float *keep)
{
    const Packed recurrent = matrices(g, weights, layer, true, false);
    for (size_t t = g.T; t-- > 0;) {
        for (size_t b = 0; b < g.B; b++) {
            const size_t i = t * g.B + b;
            for (size_t j = 0; j < g.H; j++)
                dh->row(b)[j] += dy.row(i)[j];
            gates_backward(keep + i * 4 * g.H, dh->row(b), t ? y.row(i - g.B) : h_first.row(b), g.H);
        }
        const Packed back =
            product(rounded(gate_gradients(g, keep + t * g.B * 4 * g.H, g.B, true), g.operand), recurrent);
        for (size_t i = 0; i < dh->at.size(); i++)
            dh->at[i] += back.at[i];
    }
    return product(rounded(gate_gradients(g, keep, g.T * g.B, false), g.operand),
                   matrices(g, weights, layer, false, false));
}
void run(const BackwardDataCall &c)
{
    const Gru &g = c.g;
    touch(g, {{"y", c.y, sequences(g, g.H), false},
              {"dy", c.dy, sequences(g, g.H), false},
              {"dx", c.dx, sequences(g, g.I), true},
              {"hx", c.hx, states(g), false},
              {"dhy", c.dhy, states(g), false},
              {"dhx", c.dhx, states(g), true},
              {"the workspace", c.workspace.at, c.workspace.bytes, true},
              {"the reserve space", c.reserve.at, c.reserve.bytes, true}});
    touch_weights(g, c.weights, false);
    begin(g, c.workspace, c.lengths);
    Reserve reserve(g, c.reserve.at);
    expect_stamp(g, reserve, 1);
    Packed d = read_rows(g, c.dy, g.H);
    for (size_t l = g.L; l-- > 0;) {
        Packed dh = read_state(g, c.dhy, l);
        d = backward(g, d, &dh, outputs(g, reserve, c.y, l), read_state(g, c.hx, l), c.weights, l,
                     reserve.gates + l * g.T * g.B * 4 * g.H);
        write_state(g, c.dhx, l, dh);
    }
    write_rows(g, c.dx, d);
    *reserve.stamp = stamp_of(g, reserve, 2);
}

// ---- gradients of the weights
static Packed turned(const Packed &p)
{
    return pack(p.cols, p.rows, Operand::EXACT, [&](size_t i, size_t j) { return p.row(j)[i]; });
}
static void add(const Gru &g, void *dweights, size_t at, float f)
{
    store(dweights, g.type, at, load(dweights, g.type, at) + f);
}
// Adds, for three gates, the products of their gradients d [TB,3H] with the inputs [TB,n], and the sums of d.
static void add_gradients(const Gru &g, void *dweights, size_t layer, bool recurrent, const Packed &d,
                          const Packed &inputs)
{
    const Packed dw = product(rounded(turned(d), g.operand), rounded(inputs, g.operand));
    for (size_t unit = 0; unit < 3 * g.H; unit++) {
        const Weights w = weights_at(g, layer, unit / g.H + (recurrent ? 3 : 0));
        for (size_t i = 0; i < inputs.cols; i++)
            add(g, dweights, w.matrix + unit % g.H * inputs.cols + i, dw.row(unit)[i]);
        double sum = 0;
        for (size_t i = 0; i < d.rows; i++)
            sum += static_cast<double>(d.row(i)[unit]);
        add(g, dweights, w.bias + unit % g.H, static_cast<float>(sum));
    }
}
void run(const BackwardWeightsCall &c)
{
    const Gru &g = c.g;
    touch(g, {{"x", c.x, sequences(g, g.I), false},
              {"hx", c.hx, states(g), false},
              {"y", c.y, sequences(g, g.H), false},
              {"the workspace", c.workspace.at, c.workspace.bytes, true},
              {"the reserve space", c.reserve.at, c.reserve.bytes, true}});
    touch_weights(g, c.dweights, false);
    touch_weights(g, c.dweights, true);
    begin(g, c.workspace, c.lengths);
    Reserve reserve(g, c.reserve.at);
    expect_stamp(g, reserve, 2);
    const size_t rows = g.T * g.B;
    for (size_t l = 0; l < g.L; l++) {
        const float *keep = reserve.gates + l * rows * 4 * g.H;
        add_gradients(g, c.dweights, l, false, gate_gradients(g, keep, rows, false),
                      l ? outputs(g, reserve, c.y, l - 1) : read_rows(g, c.x, g.I));
        const Packed y = outputs(g, reserve, c.y, l), first = read_state(g, c.hx, l);
        const Packed before = pack(rows, g.H, Operand::EXACT,
                                   [&](size_t i, size_t j) { return i < g.B ? first.row(i)[j] : y.row(i - g.B)[j]; });
        add_gradients(g, c.dweights, l, true, gate_gradients(g, keep, rows, true), before);
    }
}
} // namespace cusim
