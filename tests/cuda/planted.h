/* planted.h - the list of planted mistakes, planted.txt: what each is, and where.
 *
 *   = the mistake, in words
 *   in FILE                 of src/kernels/cuda
 *   by PROGRAM [TESTS]      the test program that must fail, and which of its tests (a pattern)
 *   says WORDS              what it must say (optional)
 *   only check              found by the simulator's checker alone (optional)
 *   - line                  whole lines of the file, once there, wherever they are broken and however indented
 *   + line                  what stands there instead; PLANTED is whether this mistake is on
 *
 * All mistakes of the list are compiled into one set of kernels, and CRNN_PLANTED=number turns one on. A list that no longer fits the
 * kernels fails the build.
 */
#ifndef CRNN_TESTS_PLANTED_H
#define CRNN_TESTS_PLANTED_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLANTED_MOST = 256, PLANTED_LINES = 32, PLANTED_WIDTH = 240 };
typedef struct {
    char what[PLANTED_WIDTH], in[64], by[64], tests[PLANTED_WIDTH], says[PLANTED_WIDTH];
    bool check_only;
    int olds, news;
    char old[PLANTED_LINES][PLANTED_WIDTH], new[PLANTED_LINES][PLANTED_WIDTH];
} planted_mistake;

static inline void planted_fail(const char *path, int line, const char *why)
{
    fprintf(stderr, "%s:%d: %s\n", path, line, why);
    exit(1);
}
/* One line of a mistake; false where it is none that is known. */
static inline bool planted_line(planted_mistake *m, const char *line)
{
    if (line[0] == '-' || line[0] == '+') {
        int *n = line[0] == '-' ? &m->olds : &m->news;
        if (*n == PLANTED_LINES)
            return false;
        snprintf(line[0] == '-' ? m->old[(*n)++] : m->new[(*n)++], PLANTED_WIDTH, "%s", line + 1);
        return true;
    }
    m->check_only = m->check_only || strcmp(line, "only check") == 0;
    return sscanf(line, "in %63s", m->in) == 1 || sscanf(line, "by %63s %239s", m->by, m->tests) >= 1 ||
           sscanf(line, "says %239[^\n]", m->says) == 1 || strcmp(line, "only check") == 0;
}
/* Mistake i has number i + 1. Freed by the caller. Ends the program where the list cannot be read. */
static inline planted_mistake *planted_read(const char *path, int *n)
{
    planted_mistake *all = calloc(PLANTED_MOST, sizeof *all);
    FILE *f = fopen(path, "r");
    char line[PLANTED_WIDTH];
    *n = 0;
    if (!all || !f)
        planted_fail(path, 0, "cannot be read");
    for (int number = 1; fgets(line, sizeof line, f); number++) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#')
            continue;
        if (line[0] == '=') {
            if (*n == PLANTED_MOST)
                planted_fail(path, number, "too many mistakes");
            snprintf(all[(*n)++].what, PLANTED_WIDTH, "%s", line + 1 + strspn(line + 1, " "));
        } else if (*n == 0 || !planted_line(&all[*n - 1], line))
            planted_fail(path, number, "not a line of a mistake");
    }
    fclose(f);
    return all;
}

#endif
