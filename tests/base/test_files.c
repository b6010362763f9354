#include "support/cmocka.h"

#include "host/base/files.h"
#include "support/scratch.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int set_up(void **state)
{
    *state = scratch_new();
    return 0;
}

static int tear_down(void **state)
{
    scratch_remove(*state);
    return 0;
}

static void check_refused(const char *path, const char *because)
{
    crnn_error err = {0};
    alarm(10); /* an open that blocks would never come back */
    assert_int_equal(crnn_open_regular(path, NULL, &err), -1);
    alarm(0);
    assert_int_equal(err.status, CRNN_ERR_IO);
    if (!strstr(err.text, because))
        fail_msg("\"%s\" does not say \"%s\"", err.text, because);
}

static void only_regular_files_are_opened_and_nothing_blocks(void **state)
{
    const char *pipe_path = scratch_path(*state, "pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    check_refused(pipe_path, "is a pipe");
    check_refused(*state, "is a directory");
    check_refused("/dev/zero", "is a device");
    check_refused("/dev/null", "is a device");
    check_refused(scratch_path(*state, "none\x1b"), "none^[: No such file");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *socket_path = scratch_path(*state, "socket");
    if (strlen(socket_path) >= sizeof address.sun_path)
        return; /* TMPDIR is too long for a socket's address */
    strcpy(address.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    check_refused(socket_path, "is a socket");
    close(fd);
}

static void a_whole_file_comes_with_a_final_nul(void **state)
{
    size_t size = 0;
    crnn_error err = {0};
    const char *path = scratch_write(*state, "file", "a\0b", 3);
    char *data = crnn_read_file(path, 3, &size, &err);
    assert_non_null(data);
    assert_int_equal(size, 3);
    assert_memory_equal(data, "a\0b", 4);
    free(data);
    assert_null(crnn_read_file(path, 2, &size, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    assert_non_null(strstr(err.text, "has 3 bytes; at most 2"));
}

static void a_file_that_ends_early_is_an_error(void **state)
{
    char data[8];
    crnn_error err = {0};
    const char *path = scratch_text(*state, "short", "abc");
    int fd = crnn_open_regular(path, NULL, &err);
    assert_int_equal(crnn_read_full(fd, data, 8, path, &err), CRNN_ERR_IO);
    assert_non_null(strstr(err.text, "5 bytes before"));
    close(fd);
}

static void directories_are_made_with_their_parents(void **state)
{
    crnn_error err = {0};
    struct stat info;
    const char *deep = scratch_path(*state, "a//b/c/");
    assert_int_equal(crnn_make_directories(deep, &err), CRNN_OK);
    assert_int_equal(stat(deep, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(crnn_make_directories(deep, &err), CRNN_OK); /* again: no harm */
    assert_int_equal(crnn_make_directories("/", &err), CRNN_OK);
    assert_int_equal(crnn_make_directories(".", &err), CRNN_OK);
    scratch_text(*state, "file", "");
    assert_int_equal(crnn_make_directories(scratch_path(*state, "file/d"), &err), CRNN_ERR_IO);
    assert_int_equal(crnn_make_directories(scratch_path(*state, "file"), &err), CRNN_ERR_IO);
    assert_int_equal(crnn_make_directories("", &err), CRNN_ERR_ARGUMENT);
}

static void relative_directories_are_made_too(void **state)
{
    crnn_error err = {0};
    char *before = getcwd(NULL, 0);
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(crnn_make_directories("x/y", &err), CRNN_OK);
    assert_int_equal(access("x/y", W_OK), 0);
    assert_int_equal(chdir(before), 0);
    free(before);
}

static int entries(const char *dir)
{
    int count = 0;
    DIR *stream = opendir(dir);
    while (readdir(stream))
        count++;
    closedir(stream);
    return count - 2;
}

static void a_written_file_replaces_the_old_one_and_leaves_nothing_beside(void **state)
{
    crnn_error err = {0};
    size_t size;
    assert_int_equal(crnn_write_file_durably(*state, "f.json", "first", 5, &err), CRNN_OK);
    assert_int_equal(crnn_write_file_durably(*state, "f.json", "2nd", 3, &err), CRNN_OK);
    char *data = crnn_read_file(scratch_path(*state, "f.json"), 100, &size, &err);
    assert_string_equal(data, "2nd");
    free(data);
    assert_int_equal(entries(*state), 1);
}

static void a_write_that_fails_says_why_and_leaves_the_old_file(void **state)
{
    crnn_error err = {0};
    assert_int_equal(crnn_write_file_durably(scratch_path(*state, "none"), "f", "x", 1, &err), CRNN_ERR_IO);
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(mkdir(scratch_path(*state, "f"), 0777), 0); /* a rename onto a directory fails */
    assert_int_equal(crnn_write_file_durably(*state, "f", "x", 1, &err), CRNN_ERR_IO);
    assert_int_equal(entries(*state), 1);
    int full = open("/dev/full", O_WRONLY);
    if (full < 0)
        return;
    assert_int_equal(crnn_write_full(full, "x", 1, "/dev/full", &err), CRNN_ERR_IO);
    assert_non_null(strstr(err.text, "No space"));
    close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_regular_files_are_opened_and_nothing_blocks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_whole_file_comes_with_a_final_nul, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_ends_early_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(directories_are_made_with_their_parents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(relative_directories_are_made_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_written_file_replaces_the_old_one_and_leaves_nothing_beside, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_write_that_fails_says_why_and_leaves_the_old_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
