/* Preloaded into the program under test: records what it does to files, and lets one of its calls go wrong.
 *
 * Only calls that the program's own code makes are seen: what libraries do for themselves goes by. Environment:
 *   TRUST_LOG   file to append to
 *   TRUST_ROOT  what happens to files below it is recorded
 *   TRUST_PLAN  HOW:N, with the N-th call (from 1): "kill" dies before it, "short" halves a read or write, a number makes it fail with that errno
 */
#include "trust/ours.h"
#include "trust/record.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

static int log_fd = -1;
static char root[PATH_MAX];
static enum { NOTHING, FAIL, SHORT, KILL } how;
static int planned_error;
static long planned_call;
static atomic_long calls;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("TRUST_LOG"), *plan = getenv("TRUST_PLAN"), *under = getenv("TRUST_ROOT");
    list_objects();
    if (file)
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    snprintf(root, sizeof root, "%s", under ? under : "");
    char *number = plan ? strchr(plan, ':') : NULL;
    if (!number)
        return;
    planned_call = atol(number + 1);
    planned_error = atoi(plan);
    how = strncmp(plan, "kill", 4) == 0 ? KILL : strncmp(plan, "short", 5) == 0 ? SHORT : FAIL;
}

/* --- records ---------------------------------------------------------------------------------------------------------------- */

/* One write, so that records of two threads do not mix. */
static void put(trust_record record, const void *payload, size_t size)
{
    memcpy(record.mark, RECORD_MARK, sizeof record.mark);
    record.size = (uint32_t)size;
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)(uintptr_t)payload, size}};
    if (log_fd >= 0)
        syscall(SYS_writev, log_fd, parts, 2);
}

static void path_of_fd(char path[PATH_MAX], int fd)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* Absolute, though not free of symbolic links: tests give none. */
static void path_at(char path[PATH_MAX], int dir, const char *name)
{
    char base[PATH_MAX] = "";
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (dir == AT_FDCWD)
        syscall(SYS_getcwd, base, sizeof base);
    else
        path_of_fd(base, dir);
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
        path[0] = 0;
}

static bool in_root(const char *path)
{
    size_t length = strlen(root);
    return length > 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static bool fd_in_root(int fd, struct stat *info)
{
    char path[PATH_MAX];
    if (log_fd < 0)
        return false;
    path_of_fd(path, fd);
    return in_root(path) && fstatat(fd, "", info, AT_EMPTY_PATH) == 0;
}

/* --- the plan --------------------------------------------------------------------------------------------------------------- */

/* Counts a call of the program's own. Returns what is to become of it: an errno, or -1 for half of it, or 0. */
static int book(const char *name, const void *caller)
{
    if (how == NOTHING || object_of(caller) != OBJECT_PROGRAM || ++calls != planned_call)
        return 0;
    put((trust_record){.kind = RECORD_INJECTED, .offset = planned_call}, name, strlen(name));
    if (how == KILL)
        syscall(SYS_kill, getpid(), SIGKILL);
    return how == SHORT ? -1 : planned_error;
}

/* Fails the present function where that is planned. */
#define MAY_FAIL(name, failure)                                                                                        \
    do {                                                                                                               \
        int wrong = book(name, CALLER);                                                                                \
        if (wrong > 0) {                                                                                               \
            errno = wrong;                                                                                             \
            return failure;                                                                                            \
        }                                                                                                              \
    } while (0)

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* --- files ------------------------------------------------------------------------------------------------------------------ */

static int open_and_record(int dir, const char *name, int flags, mode_t mode)
{
    struct stat info;
    char path[PATH_MAX];
    bool was_there = fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = (int)syscall(SYS_openat, dir, name, flags, mode);
    int number = errno;
    path_at(path, dir, name);
    if (fd >= 0 && (flags & O_ACCMODE) != O_RDONLY && in_root(path) && fstatat(fd, "", &info, AT_EMPTY_PATH) == 0)
        put(
            (trust_record){
                .kind = RECORD_OPEN, .inode = info.st_ino, .created = !was_there, .truncated = (flags & O_TRUNC) != 0},
            path, strlen(path));
    errno = number;
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

EXPORT int openat(int dir, const char *name, int flags, ...)
{
    va_list args;
    MAY_FAIL("openat", -1);
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_and_record(dir, name, flags, mode);
}

EXPORT int open(const char *name, int flags, ...)
{
    va_list args;
    MAY_FAIL("open", -1);
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_and_record(AT_FDCWD, name, flags, mode);
}

/* After an error too the descriptor is closed, as Linux does it. */
EXPORT int close(int fd)
{
    int wrong = book("close", CALLER);
    int result = (int)syscall(SYS_close, fd);
    if (wrong <= 0)
        return result;
    errno = wrong;
    return -1;
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
    int wrong = book("read", CALLER);
    errno = wrong > 0 ? wrong : errno;
    return wrong > 0 ? -1 : syscall(SYS_read, fd, data, wrong && size > 1 ? size / 2 : size);
}

static void record_write(int fd, int64_t offset, const void *data, ssize_t put_bytes)
{
    struct stat info;
    int number = errno;
    if (put_bytes > 0 && fd_in_root(fd, &info))
        put((trust_record){.kind = RECORD_WRITE, .inode = info.st_ino, .offset = offset}, data, (size_t)put_bytes);
    errno = number;
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    int wrong = book("write", CALLER);
    errno = wrong > 0 ? wrong : errno;
    if (wrong > 0)
        return -1;
    int64_t offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_write, fd, data, wrong && size > 1 ? size / 2 : size);
    record_write(fd, offset, data, done);
    return done;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    int wrong = book("pwrite", CALLER);
    errno = wrong > 0 ? wrong : errno;
    if (wrong > 0)
        return -1;
    ssize_t done = syscall(SYS_pwrite64, fd, data, wrong && size > 1 ? size / 2 : size, offset);
    record_write(fd, offset, data, done);
    return done;
}

static int sync_and_record(int fd, long number)
{
    struct stat info;
    int result = (int)syscall(number, fd), error = errno;
    if (result == 0 && fd_in_root(fd, &info))
        put((trust_record){.kind = RECORD_SYNC, .inode = info.st_ino, .directory = S_ISDIR(info.st_mode)}, "", 0);
    errno = error;
    return result;
}

EXPORT int fsync(int fd)
{
    MAY_FAIL("fsync", -1);
    return sync_and_record(fd, SYS_fsync);
}

EXPORT int fdatasync(int fd)
{
    MAY_FAIL("fdatasync", -1);
    return sync_and_record(fd, SYS_fdatasync);
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char paths[2 * PATH_MAX], other[PATH_MAX];
    MAY_FAIL("renameat", -1);
    path_at(paths, from_dir, from);
    path_at(other, to_dir, to);
    int result = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
    int number = errno;
    size_t length = strlen(paths) + 1;
    memcpy(paths + length, other, strlen(other) + 1);
    if (result == 0 && in_root(paths))
        put((trust_record){.kind = RECORD_RENAME}, paths, length + strlen(other) + 1);
    errno = number;
    return result;
}

EXPORT int unlinkat(int dir, const char *name, int flags)
{
    char path[PATH_MAX];
    MAY_FAIL("unlinkat", -1);
    path_at(path, dir, name);
    int result = (int)syscall(SYS_unlinkat, dir, name, flags);
    int number = errno;
    if (result == 0 && in_root(path))
        put((trust_record){.kind = RECORD_UNLINK}, path, strlen(path));
    errno = number;
    return result;
}

EXPORT int mkdir(const char *name, mode_t mode)
{
    struct stat info;
    char path[PATH_MAX];
    MAY_FAIL("mkdir", -1);
    path_at(path, AT_FDCWD, name);
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    int number = errno;
    if (result == 0 && in_root(path) && fstatat(AT_FDCWD, name, &info, 0) == 0)
        put((trust_record){.kind = RECORD_MKDIR, .inode = info.st_ino}, path, strlen(path));
    errno = number;
    return result;
}

/* --- calls that change nothing, but may fail ---------------------------------------------------------------------------------- */

EXPORT off_t lseek(int fd, off_t offset, int whence)
{
    MAY_FAIL("lseek", -1);
    return syscall(SYS_lseek, fd, offset, whence);
}

EXPORT int flock(int fd, int operation)
{
    MAY_FAIL("flock", -1);
    return (int)syscall(SYS_flock, fd, operation);
}

EXPORT int stat(const char *restrict path, struct stat *restrict info)
{
    MAY_FAIL("stat", -1);
    return fstatat(AT_FDCWD, path, info, 0);
}

EXPORT int lstat(const char *restrict path, struct stat *restrict info)
{
    MAY_FAIL("lstat", -1);
    return fstatat(AT_FDCWD, path, info, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fstat(int fd, struct stat *info)
{
    MAY_FAIL("fstat", -1);
    return fstatat(fd, "", info, AT_EMPTY_PATH);
}

EXPORT int fstatat(int dir, const char *restrict path, struct stat *restrict info, int flags)
{
    MAY_FAIL("fstatat", -1);
    return NEXT(fstatat)(dir, path, info, flags);
}

EXPORT int fstatvfs(int fd, struct statvfs *disk)
{
    MAY_FAIL("fstatvfs", -1);
    return NEXT(fstatvfs)(fd, disk);
}

EXPORT DIR *opendir(const char *name)
{
    MAY_FAIL("opendir", NULL);
    return NEXT(opendir)(name);
}

EXPORT DIR *fdopendir(int fd)
{
    MAY_FAIL("fdopendir", NULL);
    return NEXT(fdopendir)(fd);
}

EXPORT struct dirent *readdir(DIR *listing)
{
    MAY_FAIL("readdir", NULL);
    return NEXT(readdir)(listing);
}

EXPORT char *realpath(const char *restrict name, char *restrict resolved)
{
    MAY_FAIL("realpath", NULL);
    return NEXT(realpath)(name, resolved);
}

EXPORT char *getcwd(char *buffer, size_t size)
{
    MAY_FAIL("getcwd", NULL);
    return NEXT(getcwd)(buffer, size);
}

EXPORT FILE *fopen(const char *restrict name, const char *restrict mode)
{
    MAY_FAIL("fopen", NULL);
    return NEXT(fopen)(name, mode);
}

EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*run)(void *),
                          void *restrict argument)
{
    int wrong = book("pthread_create", CALLER);
    return wrong > 0 ? wrong : NEXT(pthread_create)(thread, attributes, run, argument);
}
