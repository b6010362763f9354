#include "support/reference.h"
#include <crnn/text.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void ref_linear(double *y, const double *x, const double *W, const double *b, int64_t n, int64_t K, int64_t M)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t m = 0; m < M; m++) {
            double sum = b ? b[m] : 0;
            for (int64_t k = 0; k < K; k++)
                sum += x[i * K + k] * W[k * M + m];
            y[i * M + m] = sum;
        }
}

void ref_linear_backward(double *dx, double *dW, double *db, const double *dy, const double *x, const double *W,
                         int64_t n, int64_t K, int64_t M)
{
    memset(dx, 0, (size_t)(n * K) * sizeof *dx);
    memset(dW, 0, (size_t)(K * M) * sizeof *dW);
    memset(db, 0, (size_t)M * sizeof *db);
    for (int64_t i = 0; i < n; i++)
        for (int64_t m = 0; m < M; m++) {
            double d = dy[i * M + m];
            db[m] += d;
            for (int64_t k = 0; k < K; k++) {
                dx[i * K + k] += d * W[k * M + m];
                dW[k * M + m] += d * x[i * K + k];
            }
        }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Gates of one unit of one row at one time: z, r, n, and n_h = h Rh + b1h. */
static void unit(double *gate, const ref_gru *g, const double *x, const double *h, int64_t j)
{
    double a[3], c[3];
    for (int64_t k = 0; k < 3; k++) {
        int64_t column = k * g->H + j;
        a[k] = g->bias[column];
        c[k] = g->bias[3 * g->H + column];
        for (int64_t i = 0; i < g->I; i++)
            a[k] += x[i] * g->kernel[i * 3 * g->H + column];
        for (int64_t i = 0; i < g->H; i++)
            c[k] += h[i] * g->recurrent[i * 3 * g->H + column];
    }
    gate[0] = sigmoid(a[0] + c[0]);
    gate[1] = sigmoid(a[1] + c[1]);
    gate[2] = tanh(a[2] + gate[1] * c[2]);
    gate[3] = c[2];
}

static const double *state_before(const ref_gru *g, const double *hs, int64_t t, int64_t b)
{
    return t ? hs + ((t - 1) * g->B + b) * g->H : g->h_first + b * g->H;
}

void ref_gru_forward(double *hs, const ref_gru *g)
{
    for (int64_t t = 0; t < g->T; t++)
        for (int64_t b = 0; b < g->B; b++)
            for (int64_t j = 0; j < g->H; j++) {
                const double *h = state_before(g, hs, t, b);
                double gate[4];
                unit(gate, g, g->x + (t * g->B + b) * g->I, h, j);
                hs[(t * g->B + b) * g->H + j] = gate[0] * h[j] + (1 - gate[0]) * gate[2];
            }
}

/* Adds what da (at x K + b0) and dc (at h R + b1) of one column give. */
static void column_backward(double *dx, double *dh, double *dkernel, double *drecurrent, double *dbias,
                            const ref_gru *g, const double *x, const double *h, double da, double dc, int64_t column)
{
    int64_t H3 = 3 * g->H;
    dbias[column] += da;
    dbias[H3 + column] += dc;
    for (int64_t i = 0; i < g->I; i++) {
        dx[i] += da * g->kernel[i * H3 + column];
        dkernel[i * H3 + column] += da * x[i];
    }
    for (int64_t i = 0; i < g->H; i++) {
        dh[i] += dc * g->recurrent[i * H3 + column];
        drecurrent[i * H3 + column] += dc * h[i];
    }
}

void ref_gru_backward(double *dx, double *dkernel, double *drecurrent, double *dbias, const double *dhs,
                      const ref_gru *g)
{
    int64_t H = g->H, n = g->T * g->B;
    double *hs = calloc((size_t)(n * H), sizeof *hs);
    double *dh = calloc((size_t)(2 * H), sizeof *dh), *before = dh + H;
    ref_gru_forward(hs, g);
    memset(dx, 0, (size_t)(n * g->I) * sizeof *dx);
    memset(dkernel, 0, (size_t)(g->I * 3 * H) * sizeof *dkernel);
    memset(drecurrent, 0, (size_t)(H * 3 * H) * sizeof *drecurrent);
    memset(dbias, 0, (size_t)(6 * H) * sizeof *dbias);
    for (int64_t b = 0; b < g->B; b++) {
        memset(dh, 0, (size_t)H * sizeof *dh);
        for (int64_t t = g->T - 1; t >= 0; t--) {
            int64_t row = t * g->B + b;
            const double *x = g->x + row * g->I, *h = state_before(g, hs, t, b);
            memset(before, 0, (size_t)H * sizeof *before);
            for (int64_t j = 0; j < H; j++) {
                double gate[4];
                unit(gate, g, x, h, j);
                double z = gate[0], r = gate[1], m = gate[2], d = dh[j] + dhs[row * H + j];
                double dm = d * (1 - z) * (1 - m * m), dz = d * (h[j] - m) * z * (1 - z),
                       dr = dm * gate[3] * r * (1 - r);
                before[j] += d * z;
                double da[3] = {dz, dr, dm}, dc[3] = {dz, dr, dm * r};
                for (int64_t k = 0; k < 3; k++)
                    column_backward(dx + row * g->I, before, dkernel, drecurrent, dbias, g, x, h, da[k], dc[k],
                                    k * H + j);
            }
            memcpy(dh, before, (size_t)H * sizeof *dh);
        }
    }
    free(hs);
    free(dh);
}

void ref_softmax_xent(double *loss_sum, int64_t *positions, int64_t *hits, double *z, const uint16_t *y, int64_t n,
                      int64_t V, double scale)
{
    *loss_sum = 0;
    *positions = *hits = 0;
    for (int64_t i = 0; i < n; i++) {
        double *row = z + i * V, sum = 0;
        int64_t best = 0;
        for (int64_t v = 1; v < V; v++)
            best = row[v] > row[best] ? v : best;
        double max = row[best];
        for (int64_t v = 0; v < V; v++)
            sum += exp(row[v] - max);
        bool counts = y[i] != CRNN_NO_ID;
        if (counts) {
            *loss_sum += log(sum) + max - row[y[i]];
            *positions += 1;
            *hits += best == y[i];
        }
        for (int64_t v = 0; v < V && scale != 0; v++)
            row[v] = counts ? (exp(row[v] - max) / sum - (v == y[i])) * scale : 0;
    }
}
