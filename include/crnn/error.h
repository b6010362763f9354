/* error.h - how libcrnn reports failure: a status and one sentence for a person.
 *
 * A function that can fail returns a crnn_status (or NULL) and takes a crnn_error as its last parameter, which may be
 * NULL. The sentence says what was wrong, where, and what to do; names and paths in it are escaped for a terminal.
 */
#ifndef CRNN_ERROR_H
#define CRNN_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CRNN_OK,
    CRNN_ERR_ARGUMENT, /* the caller asked for something that cannot be */
    CRNN_ERR_MEMORY,   /* out of memory */
    CRNN_ERR_IO,       /* the operating system refused */
    CRNN_ERR_FORMAT,   /* bad data or a bad model file */
    CRNN_ERR_DEVICE,   /* the device asked for is not usable */
    CRNN_ERR_DIVERGED, /* training produced values that are not finite and could not be brought back */
    CRNN_ERR_STOPPED,  /* stopped by the caller, after saving */
    CRNN_ERR_FAULT     /* the device failed while it computed */
} crnn_status;

typedef struct {
    crnn_status status;
    char text[480];
} crnn_error;

/* Fills err (may be NULL) and returns status, so that a failure is one line at its place. */
crnn_status crnn_fail(crnn_error *err, crnn_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

#ifdef __cplusplus
}
#endif
#endif
