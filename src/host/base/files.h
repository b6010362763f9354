/* files.h - files read whole and written so that they survive a crash.
 *
 * All paths that come into messages are escaped (escape.h). Nothing is mapped: a file that shrinks is an error, not a signal.
 */
#ifndef CRNN_BASE_FILES_H
#define CRNN_BASE_FILES_H

#include <crnn/error.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Opens a regular file for reading, without blocking on a FIFO or a device. Returns the descriptor, or -1 with err; *size
 * (may be NULL) becomes its size. */
int crnn_open_regular(const char *path, int64_t *size, crnn_error *err);
/* Reads exactly size bytes, resuming after EINTR and short reads; err where the file ends before or an error occurs. path: for err. */
crnn_status crnn_read_full(int fd, void *data, size_t size, const char *path, crnn_error *err);
crnn_status crnn_write_full(int fd, const void *data, size_t size, const char *path, crnn_error *err);
/* The whole regular file in malloc'd memory with a final NUL that size does not count; at most max bytes. */
char *crnn_read_file(const char *path, int64_t max, size_t *size, crnn_error *err);
/* Makes dir and its parents (mode 0777 less umask), each made durable by an fsync of its parent. */
crnn_status crnn_make_directories(const char *dir, crnn_error *err);
crnn_status crnn_sync_directory(const char *dir, crnn_error *err);
/* Replaces dir/name by data through a temporary file, fsync, rename, fsync of dir. */
crnn_status crnn_write_file_durably(const char *dir, const char *name, const void *data, size_t size, crnn_error *err);

#endif
