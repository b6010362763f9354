/* plant LIST FILE TO - copies one file of the kernels with all the mistakes of planted.h's list in it, each behind its switch. */
#include "planted.h"

enum { LINES = 4096 };
static char *text[LINES];
static int lines;

/* Adds the line without its white space. */
static void add_bare(char *to, size_t size, const char *line)
{
    size_t n = strlen(to);
    for (; *line && n + 1 < size; line++)
        if (!strchr(" \t", *line))
            to[n++] = *line;
    to[n] = 0;
}
/* How many lines from there on are the mistake's old ones, wherever the lines end; 0: they are others. */
static int same(const planted_mistake *m, int at)
{
    char wanted[PLANTED_LINES * PLANTED_WIDTH] = "", there[sizeof wanted] = "";
    int n = 0;
    for (int i = 0; i < m->olds; i++)
        add_bare(wanted, sizeof wanted, m->old[i]);
    while (strlen(there) < strlen(wanted) && at + n < lines && text[at + n])
        add_bare(there, sizeof there, text[at + n++]);
    return wanted[0] && strcmp(there, wanted) == 0 ? n : 0;
}
/* PLANTED becomes the switch of mistake `number`. */
static char *with_switch(const char *line, int number)
{
    char out[2 * PLANTED_WIDTH] = "";
    const char *at;
    for (; (at = strstr(line, "PLANTED")); line = at + strlen("PLANTED"))
        snprintf(out + strlen(out), sizeof out - strlen(out), "%.*sstatic_cast<bool>(crnn_planted == %d)",
                 (int)(at - line), line, number);
    snprintf(out + strlen(out), sizeof out - strlen(out), "%s\n", line);
    return strdup(out);
}
static void plant(const planted_mistake *m, int number, const char *list)
{
    int found = 0, at = 0, old = 0;
    for (int i = 0; i < lines; i++)
        if (same(m, i)) {
            found++;
            at = i;
            old = same(m, i);
        }
    if (found != 1) {
        fprintf(stderr, "%s: \"%s\": its lines stand %d times in %s, not once\n", list, m->what, found, m->in);
        exit(1);
    }
    size_t size = 1;
    char *all = calloc(1, size);
    for (int i = 0; i < m->news; i++) {
        char *line = with_switch(m->new[i], number);
        size += strlen(line);
        all = realloc(all, size);
        strcat(all, line);
        free(line);
    }
    for (int i = 0; i < old; i++) { /* the lines stay apart, so that others are found where they were */
        free(text[at + i]);
        text[at + i] = NULL;
    }
    all[strlen(all) - (all[0] ? 1 : 0)] = 0;
    text[at] = all;
}
static void read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[1024];
    if (!f)
        planted_fail(path, 0, "cannot be read");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (lines == LINES)
            planted_fail(path, lines, "too long");
        text[lines++] = strdup(line);
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int n;
    planted_mistake *all = planted_read(argv[1], &n);
    const char *name = strrchr(argv[2], '/') ? strrchr(argv[2], '/') + 1 : argv[2];
    read_file(argv[2]);
    for (int i = 0; i < n; i++)
        if (strcmp(all[i].in, name) == 0)
            plant(&all[i], i + 1, argv[1]);
    FILE *out = fopen(argv[3], "w");
    if (!out)
        planted_fail(argv[3], 0, "cannot be written");
    fprintf(out, "extern int crnn_planted;\n");
    for (int i = 0; i < lines; i++) {
        if (text[i])
            fprintf(out, "%s\n", text[i]);
        free(text[i]);
    }
    free(all);
    return fclose(out) ? 1 : 0;
}
