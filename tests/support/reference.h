/* reference.h - every op of backend.h once more, in plain loops and double precision, written for reading alone. */
#ifndef CRNN_TESTS_REFERENCE_H
#define CRNN_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

/* y [n,M] = x [n,K] W [K,M] + b [M] (or NULL) */
void ref_linear(double *y, const double *x, const double *W, const double *b, int64_t n, int64_t K, int64_t M);
/* dx [n,K], dW [K,M], db [M] */
void ref_linear_backward(double *dx, double *dW, double *db, const double *dy, const double *x, const double *W,
                         int64_t n, int64_t K, int64_t M);

/* A GRU layer in canonical form: x [T,B,I], kernel [I,3H], recurrent [H,3H], bias [2,3H]; gates z, r, h. */
typedef struct {
    int64_t T, B, I, H;
    const double *x, *h_first, *kernel, *recurrent, *bias;
} ref_gru;
void ref_gru_forward(double *hs /* [T,B,H] */, const ref_gru *g);
/* dx [T,B,I] and the canonical gradients, given dhs [T,B,H]. */
void ref_gru_backward(double *dx, double *dkernel, double *drecurrent, double *dbias, const double *dhs,
                      const ref_gru *g);

/* As softmax_xent of backend.h: z becomes its gradient where scale != 0. */
void ref_softmax_xent(double *loss_sum, int64_t *positions, int64_t *hits, double *z, const uint16_t *y, int64_t n,
                      int64_t V, double scale);

#endif
