/* Gives files to a fuzzer's entry, and all in a directory: its seeds and whatever was ever found. replay PATH... */
#include "fuzz.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int count;

static int give(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)where;
    if (type != FTW_F)
        return 0;
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc((size_t)info->st_size + 1); /* an empty one, too */
    ALWAYS(file && data && fread(data, 1, (size_t)info->st_size, file) == (size_t)info->st_size);
    fclose(file);
    fprintf(stderr, "%s\n", path); /* so that the last one told is the one that failed */
    uint8_t *exact = realloc(data, (size_t)info->st_size ? (size_t)info->st_size : 1); /* a sanitizer sees its end */
    ALWAYS(exact);
    LLVMFuzzerTestOneInput(exact, (size_t)info->st_size);
    free(exact);
    count++;
    return 0;
}

int main(int argc, char **argv)
{
    if (!freopen("/dev/null", "w", stdout)) /* the program's own output is not what is looked at */
        return 1;
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], give, 16, FTW_PHYS) != 0) {
            perror(argv[i]);
            return 1;
        }
    fprintf(stderr, "%d inputs\n", count);
    return count ? 0 : 1;
}
