#include "host/base/sha256.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct crnn_sha256 {
    EVP_MD_CTX *context;
};

crnn_sha256 *crnn_sha256_new(void)
{
    /* Where libcrypto could not make its default context for want of memory, every later call would fall over it. */
    if (!OSSL_LIB_CTX_get0_global_default())
        return NULL;
    crnn_sha256 *hash = calloc(1, sizeof *hash);
    if (!hash)
        return NULL;
    hash->context = EVP_MD_CTX_new();
    if (!hash->context || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1) {
        crnn_sha256_free(hash);
        return NULL;
    }
    return hash;
}

void crnn_sha256_free(crnn_sha256 *hash)
{
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

bool crnn_sha256_add(crnn_sha256 *hash, const void *data, size_t size)
{
    return EVP_DigestUpdate(hash->context, data, size) == 1;
}

bool crnn_sha256_end(crnn_sha256 *hash, uint8_t digest[32])
{
    return EVP_DigestFinal_ex(hash->context, digest, NULL) == 1 &&
           EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1;
}

void crnn_sha256_hex(char out[65], const uint8_t digest[32])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[64] = '\0';
}
