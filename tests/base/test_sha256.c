#include "support/cmocka.h"

#include "host/base/sha256.h"

static void pieces_hash_as_the_whole_and_the_hash_begins_anew(void **state)
{
    (void)state;
    uint8_t digest[32];
    char hex[65];
    crnn_sha256 *hash = crnn_sha256_new();
    assert_non_null(hash);
    assert_true(crnn_sha256_add(hash, "a", 1));
    assert_true(crnn_sha256_add(hash, "", 0));
    assert_true(crnn_sha256_add(hash, "bc", 2));
    assert_true(crnn_sha256_end(hash, digest));
    crnn_sha256_hex(hex, digest);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); /* FIPS 180-2, B.1 */
    assert_true(crnn_sha256_end(hash, digest));
    crnn_sha256_hex(hex, digest);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"); /* of nothing */
    crnn_sha256_free(hash);
    crnn_sha256_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_hash_as_the_whole_and_the_hash_begins_anew)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
