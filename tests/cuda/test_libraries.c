/* libraries.c as a GPU's machine has it, with libraries that hold the right names and no code. What is installed here is hidden from it: its
 * dlopen is the one below, which opens what lies in the folder of a test and nothing else. */
#include "kernels/cuda/libraries.h"
#include "support/cmocka.h"
#include "support/scratch.h"
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_OF(library, major) "lib" #library ".so." #major
#define NAME(library, major) NAME_OF(library, major)
static const char *const names[] = {NAME(cublasLt, CUBLAS_VER_MAJOR), NAME(cudnn_graph, CUDNN_MAJOR),
                                    NAME(cudnn_ops, CUDNN_MAJOR), NAME(cudnn_adv, CUDNN_MAJOR),
                                    NAME(cudnn, CUDNN_MAJOR)};
enum { NAMES = sizeof names / sizeof *names };

static char *folder, tried[1 << 16];

void *crnn_test_dlopen(const char *path, int flags)
{
    size_t length = strlen(tried);
    snprintf(tried + length, sizeof tried - length, "%s\n", path);
    bool ours = strncmp(path, folder, strlen(folder)) == 0;
    return dlopen(ours ? path : "/a folder that is not there/lib.so", flags);
}

/* Puts a library (STAND_IN: it has all that is wanted; EMPTY: nothing) into the folder under a name. */
static void put(const char *library, const char *name)
{
    assert_int_equal(symlink(library, scratch_path(folder, name)), 0);
}

static int set_up(void **state)
{
    (void)state;
    folder = scratch_new();
    setenv("CRNN_CUDA_LIBRARIES", folder, 1);
    tried[0] = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_remove(folder);
    return 0;
}

static void refused(const char *name, const char *why)
{
    crnn_gpu_libraries libraries;
    crnn_error err = {0};
    assert_int_equal(crnn_gpu_libraries_open(&libraries, &err), CRNN_ERR_DEVICE);
    if (!strstr(err.text, name) || !strstr(err.text, why))
        fail_msg("'%s' names not '%s' or not '%s'", err.text, name, why);
}

static void every_function_comes_from_the_named_folder(void **state)
{
    (void)state;
    crnn_gpu_libraries libraries;
    crnn_error err = {0};
    for (int i = 0; i < NAMES; i++)
        put(CRNN_STAND_IN, names[i]);
    char list[4096]; /* empty entries and folders that are not there are passed over */
    snprintf(list, sizeof list, ":/nowhere::%s:", folder);
    setenv("CRNN_CUDA_LIBRARIES", list, 1);
    if (crnn_gpu_libraries_open(&libraries, &err) != CRNN_OK)
        fail_msg("%s", err.text);
#define TAKEN(function)                                                                                                \
    {                                                                                                                  \
        void *symbol;                                                                                                  \
        Dl_info info;                                                                                                  \
        memcpy(&symbol, &libraries.function, sizeof symbol);                                                           \
        assert_int_not_equal(dladdr(symbol, &info), 0);                                                                \
        assert_string_equal(info.dli_sname, #function);                                                                \
    }
    CRNN_CUBLASLT_FUNCTIONS(TAKEN)
    CRNN_CUDNN_FUNCTIONS(TAKEN)
    assert_null(strstr(tried, "site-packages")); /* the first place that has it ends the search */
}

static void what_is_nowhere_is_named_with_what_brings_it(void **state)
{
    (void)state;
    refused(names[0], "install cuBLAS of the CUDA toolkit, or name its folder in CRNN_CUDA_LIBRARIES");
    char places[3][300]; /* each place is tried, in this order */
    snprintf(places[0], sizeof places[0], "%s/%s\n", folder, names[0]);
    snprintf(places[1], sizeof places[1], "\n%s\n", names[0]);
    snprintf(places[2], sizeof places[2], "\n/found/by/the/build/%s\n", names[0]);
    const char *at = tried;
    for (int i = 0; i < 3; i++) {
        const char *found = strstr(at, places[i]);
        if (!found)
            fail_msg("not tried, or too early: %s of\n%s", places[i], tried);
        at = found;
    }
}

static void each_part_of_cudnn_is_tried_before_cudnn_itself(void **state)
{
    (void)state;
    put(CRNN_STAND_IN, names[0]);
    put(CRNN_STAND_IN, names[NAMES - 1]); /* cuDNN, which would end the process where a part is missing */
    for (int i = 1; i < NAMES - 1; i++) {
        tried[0] = 0;
        refused(names[i], "install all of cuDNN 9");
        char whole[300];
        snprintf(whole, sizeof whole, "/%s\n", names[NAMES - 1]);
        assert_null(strstr(tried, whole));
        put(CRNN_STAND_IN, names[i]);
    }
}

static void cublaslt_without_a_function_is_too_old(void **state)
{
    (void)state;
    put(CRNN_EMPTY, names[0]);
    refused(names[0], "is too old: it lacks cublasLtCreate");
}

static void cudnn_without_a_function_is_too_old(void **state)
{
    (void)state;
    put(CRNN_STAND_IN, names[0]);
    for (int i = 1; i < NAMES; i++)
        put(CRNN_EMPTY, names[i]);
    refused(names[NAMES - 1], "is too old: it lacks cudnnGetVersion");
}

static void a_file_that_is_no_library_is_passed_over(void **state)
{
    (void)state;
    scratch_text(folder, names[0], "not a library");
    refused(names[0], "cannot be loaded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_function_comes_from_the_named_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_nowhere_is_named_with_what_brings_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_part_of_cudnn_is_tried_before_cudnn_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cublaslt_without_a_function_is_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cudnn_without_a_function_is_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_library_is_passed_over, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
