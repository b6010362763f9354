/* scratch.h - a directory of a test's own, and where test material may lie. */
#ifndef CRNN_TESTS_SCRATCH_H
#define CRNN_TESTS_SCRATCH_H

#include <stddef.h>

/* A new directory under TMPDIR; free it with scratch_remove, which takes all that is in it along. */
char *scratch_new(void);
void scratch_remove(char *dir);
/* dir/name; valid until the eighth call after. */
const char *scratch_path(const char *dir, const char *name);
/* Writes dir/name and returns its path as scratch_path does. */
const char *scratch_write(const char *dir, const char *name, const void *data, size_t size);
const char *scratch_text(const char *dir, const char *name, const char *text);

/* Runs a shell script in dir, which sees the program under test as $CRNN_PROGRAM; returns its exit status. */
int scratch_shell(const char *dir, const char *script, ...) __attribute__((format(printf, 2, 3)));

/* The path of a file of the shared test material (CRNN_SHARED_DIR, else ../shared beside the source), or NULL where it
 * is not there; valid as scratch_path's. */
const char *scratch_shared(const char *name);

#endif
