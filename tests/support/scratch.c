#include "support/scratch.h"
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *next_slot(void)
{
    static char slots[8][4096];
    static int turn;
    return slots[turn++ % 8];
}

char *scratch_new(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = malloc(4096);
    if (dir)
        snprintf(dir, 4096, "%s/crnn-test-XXXXXX", base && *base ? base : "/tmp");
    if (!dir || !mkdtemp(dir)) {
        perror("a scratch directory");
        exit(1);
    }
    return dir;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

void scratch_remove(char *dir)
{
    if (dir)
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

const char *scratch_path(const char *dir, const char *name)
{
    char *path = next_slot();
    if (snprintf(path, 4096, "%s/%s", dir, name) >= 4096)
        exit(1);
    return path;
}

const char *scratch_write(const char *dir, const char *name, const void *data, size_t size)
{
    const char *path = scratch_path(dir, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    return path;
}

const char *scratch_text(const char *dir, const char *name, const char *text)
{
    return scratch_write(dir, name, text, strlen(text));
}

int scratch_shell(const char *dir, const char *script, ...)
{
    char text[8192];
    va_list args;
    int size = snprintf(text, sizeof text, "cd '%s' && ", dir);
    va_start(args, script);
    size += vsnprintf(text + size, sizeof text - (size_t)size, script, args);
    va_end(args);
    if (size >= (int)sizeof text)
        exit(1);
    int status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

const char *scratch_shared(const char *name)
{
    const char *base = getenv("CRNN_SHARED_DIR");
    const char *path = scratch_path(base && *base ? base : CRNN_SOURCE_DIR "/../shared", name);
    return access(path, R_OK) == 0 ? path : NULL;
}
