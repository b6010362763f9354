/* An exchange without flags hands over every word of every round, in whatever order blocks and threads run, from launch to launch. */
#include "support/cmocka.h"

#include "persist/words.h"
#include <cusim_control.h>
#include <stdlib.h>

enum { PIECES = 128, WORDS = 4 * PIECES, PATIENCE = 2000, MOST = 16 };

static void ok(cudaError_t e)
{
    assert_string_equal(cudaGetErrorName(e), "cudaSuccess");
}
static void *zeroed(size_t bytes)
{
    void *p = NULL;
    ok(cudaMalloc(&p, bytes));
    ok(cudaMemset(p, 0, bytes));
    return p;
}
static void expect_rounds(const words_run *r)
{
    uint32_t got[MOST], status = 99, sum = 0;
    ok(cudaMemcpy(got, r->results, (size_t)r->rounds * sizeof *got, cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(&status, r->status, sizeof status, cudaMemcpyDeviceToHost));
    if (status)
        fail_msg("a block gave up");
    for (int round = 0; round < r->rounds; round++) {
        uint32_t next = 0;
        for (uint32_t i = 0; i < WORDS; i++)
            next += words_next(sum, i);
        if (got[round] != next)
            fail_msg("%d blocks: the words of round %d of %d sum up to %u, not %u", r->blocks, round, r->rounds,
                     got[round], next);
        sum = next;
    }
}
static void every_word_is_handed_over(void **state)
{
    (void)state;
    static const int32_t blocks[] = {1, 2, 4, 8}, rounds[] = {1, 9, 2, 3, 16, 5};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        words_run r = {.slots = zeroed(4 * PIECES * 16),
                       .count = zeroed(8 * sizeof(uint32_t)),
                       .status = zeroed(sizeof(uint32_t)),
                       .results = zeroed(MOST * sizeof(uint32_t)),
                       .pieces = PIECES,
                       .blocks = blocks[b],
                       .patience = PATIENCE};
        for (size_t k = 0; k < sizeof rounds / sizeof *rounds; k++) {
            r.rounds = rounds[k];
            ok(launch_words(&r));
            expect_rounds(&r);
        }
        void *all[] = {r.slots, r.count, r.status, r.results};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            ok(cudaFree(all[k]));
    }
    assert_int_equal(cusim_errors(), 0);
}
/* Who waits for a word that never comes says so, and does not wait for ever. */
static void a_word_that_never_comes_is_noticed(void **state)
{
    (void)state;
    words_run r = {.slots = zeroed(4 * PIECES * 16),
                   .count = zeroed(8 * sizeof(uint32_t)),
                   .status = zeroed(sizeof(uint32_t)),
                   .results = zeroed(MOST * sizeof(uint32_t)),
                   .pieces = PIECES,
                   .blocks = 2,
                   .rounds = 3,
                   .patience = 300};
    const uint32_t behind = 1;
    uint32_t status = 0;
    ok(cudaMemcpy(r.count, &behind, sizeof behind, cudaMemcpyHostToDevice));
    ok(launch_words(&r));
    ok(cudaMemcpy(&status, r.status, sizeof status, cudaMemcpyDeviceToHost));
    assert_int_equal(status, 1);
    void *all[] = {r.slots, r.count, r.status, r.results};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        ok(cudaFree(all[k]));
}

/* One argument: run only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_word_is_handed_over),
        cmocka_unit_test(a_word_that_never_comes_is_noticed),
    };
    return cmocka_run_group_tests_name("an exchange without flags", tests, NULL, NULL);
}
