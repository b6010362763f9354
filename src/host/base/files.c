#include "host/base/files.h"
#include "host/base/escape.h"
#include "host/base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static crnn_status fail_with_errno(crnn_error *err, const char *what, const char *path)
{
    int number = errno;
    char shown[CRNN_SHOWN];
    return crnn_fail(err, number == ENOMEM ? CRNN_ERR_MEMORY : CRNN_ERR_IO, "cannot %s %s: %s", what,
                     crnn_shown(shown, path), strerror(number));
}

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "a directory"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
           : S_ISCHR(mode)  ? "a device"
           : S_ISBLK(mode)  ? "a block device"
                            : "something else";
}

static int refuse_kind(mode_t mode, const char *path, crnn_error *err)
{
    char shown[CRNN_SHOWN];
    crnn_fail(err, CRNN_ERR_IO, "%s is %s; a regular file is needed", crnn_shown(shown, path), kind_of(mode));
    return -1;
}

int crnn_open_regular(const char *path, int64_t *size, crnn_error *err)
{
    struct stat info;
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        int number = errno;
        if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) /* a socket cannot even be opened */
            return refuse_kind(info.st_mode, path, err);
        errno = number;
        fail_with_errno(err, "open", path);
        return -1;
    }
    if (fstat(fd, &info) != 0) {
        fail_with_errno(err, "look at", path);
        close(fd);
        return -1;
    }
    if (!S_ISREG(info.st_mode)) {
        close(fd);
        return refuse_kind(info.st_mode, path, err);
    }
    if (size)
        *size = (int64_t)info.st_size;
    return fd;
}

crnn_status crnn_read_full(int fd, void *data, size_t size, const char *path, crnn_error *err)
{
    char *to = data;
    for (size_t done = 0; done < size;) {
        size_t wanted = size - done < (size_t)1 << 30 ? size - done : (size_t)1 << 30;
        ssize_t got = read(fd, to + done, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_with_errno(err, "read", path);
        if (got == 0) {
            char shown[CRNN_SHOWN];
            return crnn_fail(err, CRNN_ERR_IO,
                             "%s ended %zu bytes before it should: it became shorter while it was read",
                             crnn_shown(shown, path), size - done);
        }
        done += (size_t)got;
    }
    return CRNN_OK;
}

crnn_status crnn_write_full(int fd, const void *data, size_t size, const char *path, crnn_error *err)
{
    const char *from = data;
    for (size_t done = 0; done < size;) {
        size_t wanted = size - done < (size_t)1 << 30 ? size - done : (size_t)1 << 30;
        ssize_t put = write(fd, from + done, wanted);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = ENOSPC; /* POSIX allows it for no regular file; better an error than a loop without end */
        if (put <= 0)
            return fail_with_errno(err, "write", path);
        done += (size_t)put;
    }
    return CRNN_OK;
}

char *crnn_read_file(const char *path, int64_t max, size_t *size, crnn_error *err)
{
    char shown[CRNN_SHOWN], extra, *data = NULL;
    int64_t bytes;
    int fd = crnn_open_regular(path, &bytes, err);
    if (fd < 0)
        return NULL;
    if (bytes < 0 || bytes > max) {
        crnn_fail(err, CRNN_ERR_FORMAT, "%s has %lld bytes; at most %lld are expected", crnn_shown(shown, path),
                  (long long)bytes, (long long)max);
        goto fail;
    }
    data = malloc((size_t)bytes + 1);
    if (!data) {
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory: %lld bytes for %s", (long long)bytes, crnn_shown(shown, path));
        goto fail;
    }
    if (crnn_read_full(fd, data, (size_t)bytes, path, err) != CRNN_OK)
        goto fail;
    if (read(fd, &extra, 1) > 0) {
        crnn_fail(err, CRNN_ERR_IO, "%s grew while it was read", crnn_shown(shown, path));
        goto fail;
    }
    close(fd);
    data[bytes] = '\0';
    *size = (size_t)bytes;
    return data;
fail:
    close(fd);
    free(data);
    return NULL;
}

crnn_status crnn_sync_directory(const char *dir, crnn_error *err)
{
    int fd = open(*dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_with_errno(err, "open the directory", *dir ? dir : ".");
    int result;
    do
        result = fsync(fd);
    while (result != 0 && errno == EINTR);
    /* Some file systems (and their directories) know no fsync; there is nothing more to be had from them. */
    crnn_status status =
        result == 0 || errno == EINVAL ? CRNN_OK : fail_with_errno(err, "make durable the directory", dir);
    close(fd);
    return status;
}

/* Makes path[0..end) where it is not there, and its entry durable. path is changed for the moment only. */
static crnn_status make_directory(char *path, size_t end, crnn_error *err)
{
    char kept = path[end];
    crnn_status status = CRNN_OK;
    path[end] = '\0';
    if (mkdir(path, 0777) == 0) {
        size_t slash = end;
        while (slash > 0 && path[slash - 1] != '/')
            slash--;
        char first = path[slash];
        path[slash] = '\0'; /* the parent: "" for a relative name, which crnn_sync_directory takes for "." */
        status = crnn_sync_directory(path, err);
        path[slash] = first;
    } else {
        int number = errno;
        struct stat info;
        /* mkdir on what exists may fail with EROFS or EACCES too, so that existence is what counts. */
        if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
            errno = number;
            status = fail_with_errno(err, "make the directory", path);
        }
    }
    path[end] = kept;
    return status;
}

crnn_status crnn_make_directories(const char *dir, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    if (!*dir)
        return crnn_fail(err, CRNN_ERR_ARGUMENT, "a directory without a name cannot be made");
    char *path = strdup(dir);
    if (!path)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = '\0';
    for (size_t i = 1; i <= length && status == CRNN_OK; i++)
        if ((path[i] == '/' || path[i] == '\0') && path[i - 1] != '/')
            status = make_directory(path, i, err);
    free(path);
    return status;
}

/* Writes, syncs and closes fd, whatever happens. */
static crnn_status write_and_close(int fd, const void *data, size_t size, const char *path, crnn_error *err)
{
    crnn_status status = crnn_write_full(fd, data, size, path, err);
    /* A failed fsync is never tried again: the pages may have been marked clean. */
    if (status == CRNN_OK && fsync(fd) != 0)
        status = fail_with_errno(err, "make durable", path);
    if (close(fd) != 0 && errno != EINTR && status == CRNN_OK)
        status = fail_with_errno(err, "close", path);
    return status;
}

/* A new file in dir beside name, for this process alone. */
static int open_temporary(int dirfd, char **temporary, const char *name, const char *path, crnn_error *err)
{
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        *temporary = crnn_format(".tmp-%s-%ld-%u", name, (long)getpid(), attempt);
        if (!*temporary) {
            crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
            return -1;
        }
        int fd = openat(dirfd, *temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
        int number = errno;
        free(*temporary);
        *temporary = NULL;
        errno = number;
        if (number != EEXIST && number != EINTR)
            break;
    }
    fail_with_errno(err, "create a file beside", path);
    return -1;
}

crnn_status crnn_write_file_durably(const char *dir, const char *name, const void *data, size_t size, crnn_error *err)
{
    crnn_status status = CRNN_ERR_IO;
    char *temporary = NULL, *path = crnn_format("%s/%s", dir, name);
    int dirfd = -1, fd = -1;
    if (!path) {
        status = crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a path");
        goto fail;
    }
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) {
        status = fail_with_errno(err, "open the directory", dir);
        goto fail;
    }
    fd = open_temporary(dirfd, &temporary, name, path, err);
    if (fd < 0)
        goto fail;
    status = write_and_close(fd, data, size, path, err);
    if (status == CRNN_OK && renameat(dirfd, temporary, dirfd, name) != 0)
        status = fail_with_errno(err, "rename a temporary file to", path);
    if (status != CRNN_OK) {
        unlinkat(dirfd, temporary, 0);
        goto fail;
    }
    status = crnn_sync_directory(dir, err);
fail:
    if (dirfd >= 0)
        close(dirfd);
    free(temporary);
    free(path);
    return status;
}
