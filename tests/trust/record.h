/* record.h - what the preloaded recorders write into the log of a trial, between the lines that the program itself says.
 *
 * The log is the program's standard error and the recorders' file at once, opened for appending: so words and calls stand in the order in
 * which they happened. A record begins with a NUL byte, which no line of the program holds.
 */
#ifndef CRNN_TESTS_TRUST_RECORD_H
#define CRNN_TESTS_TRUST_RECORD_H

#include <stdint.h>

typedef enum {
    RECORD_OPEN,     /* payload: path. created, truncated */
    RECORD_WRITE,    /* payload: the bytes that were taken. offset */
    RECORD_SYNC,     /* directory */
    RECORD_RENAME,   /* payload: from NUL to */
    RECORD_UNLINK,   /* payload: path */
    RECORD_MKDIR,    /* payload: path */
    RECORD_INJECTED, /* payload: name of the call. offset: its number; what was planned has been done */
} record_kind;

typedef struct {
    char mark[4];  /* RECORD_MARK */
    uint32_t size; /* of the payload that follows */
    uint32_t kind;
    uint8_t created, truncated, directory, pad;
    uint64_t inode;
    int64_t offset;
} trust_record;

#define RECORD_MARK "\0CR\1"

#endif
