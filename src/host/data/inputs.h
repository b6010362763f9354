/* inputs.h - which files a command line means: files, directories (not recursively) and quoted globs, in order.
 *
 * A file that was named itself is always read. One that a directory or a glob brings is read once, by device and inode,
 * however many names and links lead to it, and not at all for training where it is held out.
 */
#ifndef CRNN_DATA_INPUTS_H
#define CRNN_DATA_INPUTS_H

#include <crnn/text.h>
#include <sys/types.h>

typedef struct {
    char *path;
    bool named;    /* by the caller, not found in a directory or by a glob */
    bool held_out; /* one of val_paths */
    bool skip;
    int order;
    dev_t device;
    ino_t inode;
    int64_t bytes; /* as they were when it was found */
} crnn_input;

typedef struct {
    crnn_input *items;
    int count, capacity;
} crnn_inputs;

/* Zero *inputs before; free it also after an error. */
crnn_status crnn_inputs_find(crnn_inputs *inputs, const char *const *paths, int count, const char *const *val_paths,
                             int val_count, const crnn_text_options *options, crnn_error *err);
void crnn_inputs_free(crnn_inputs *inputs);

/* Files passed over for one reason: one note for all of them, with the names of the first. */
typedef struct {
    int count;
    char names[400];
} crnn_skipped;
void crnn_skipped_add(crnn_skipped *skipped, const char *path);
/* before, after: what stands around "file" or "files", each with its space: "empty ", " with NUL bytes". */
void crnn_skipped_tell(const crnn_skipped *skipped, const char *before, const char *after,
                       const crnn_text_options *options);

/* Hands a printf-formatted sentence to options->note. */
void crnn_note(const crnn_text_options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
