/* sha256.h - SHA-256 over pieces (libcrypto). */
#ifndef CRNN_BASE_SHA256_H
#define CRNN_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct crnn_sha256 crnn_sha256;

crnn_sha256 *crnn_sha256_new(void); /* NULL when out of memory */
void crnn_sha256_free(crnn_sha256 *hash);
bool crnn_sha256_add(crnn_sha256 *hash, const void *data, size_t size);
bool crnn_sha256_end(crnn_sha256 *hash, uint8_t digest[32]); /* and begins anew */
void crnn_sha256_hex(char out[65], const uint8_t digest[32]);

#endif
