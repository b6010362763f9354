/* Every mistake of planted.txt is found by the tests that are there to find it; and without one they pass.
   test-cuda-planted VARIANT DIR: DIR has planted-PROGRAM-VARIANT, the test programs with the mistakes in their kernels. */
#include "support/cmocka.h"

#include "planted.h"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static planted_mistake *mistakes;
static int number_of_mistakes;
static const char *variant, *programs;
static char said[1 << 16];

/* Exit status of the program with that mistake on, a signal as 128 and more; what it wrote in said. */
static int run(const char *program, const char *tests, int number)
{
    char path[4096], digits[16];
    int pipes[2];
    snprintf(path, sizeof path, "%s/planted-%s-%s", programs, program, variant);
    snprintf(digits, sizeof digits, "%d", number);
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        setenv("CRNN_PLANTED", digits, 1);
        setenv("CUSIM_MAX_ERRORS", "1", 1);
        execl(path, path, tests, (char *)NULL);
        perror(path);
        _exit(99);
    }
    close(pipes[1]);
    size_t n = 0;
    for (ssize_t got; (got = read(pipes[0], said + n, sizeof said - 1 - n)) > 0; n += (size_t)got)
        ;
    said[n] = 0;
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
static bool not_here(const planted_mistake *m)
{
    return m->check_only && strcmp(variant, "check") != 0;
}
static void without_a_mistake_the_tests_pass(void **state)
{
    (void)state;
    for (int i = 0; i < number_of_mistakes; i++) {
        const planted_mistake *m = &mistakes[i];
        bool done = false; /* by an earlier one of the same tests */
        for (int k = 0; k < i; k++)
            done = done || (strcmp(m->by, mistakes[k].by) == 0 && strcmp(m->tests, mistakes[k].tests) == 0);
        if (done || not_here(m))
            continue;
        int status = run(m->by, m->tests, 0);
        if (status != 0)
            fail_msg("%s %s: status %d:\n%s", m->by, m->tests, status, said);
        assert_non_null(strstr(said, "PASSED")); /* the pattern names a test */
    }
}
static void each_mistake_is_found(void **state)
{
    (void)state;
    int missed = 0;
    for (int i = 0; i < number_of_mistakes; i++) {
        const planted_mistake *m = &mistakes[i];
        if (not_here(m))
            continue;
        int status = run(m->by, m->tests, i + 1);
        if (status == 0 || status == 99 || !strstr(said, m->says)) {
            print_error("not found: \"%s\" in %s by %s %s, status %d%s%s\n", m->what, m->in, m->by, m->tests, status,
                        m->says[0] ? ", words: " : "", m->says);
            print_error("%.2000s\n", said);
            missed++;
        }
    }
    assert_int_equal(missed, 0);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    variant = argv[1];
    programs = argv[2];
    mistakes = planted_read(CRNN_SOURCE_DIR "/tests/cuda/planted.txt", &number_of_mistakes);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_mistake_the_tests_pass),
        cmocka_unit_test(each_mistake_is_found),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(mistakes);
    return failed;
}
