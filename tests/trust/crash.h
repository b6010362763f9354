/* crash.h - the states of a file system that a crash of the machine could leave, given what a program did to it.
 *
 * The model is the least that POSIX promises. Written data reach the disk at the next fsync of the file; until then any part of them may be
 * there, in any order, and a file may have its new size with zeros for contents. Entries of a directory reach it at the next fsync of that directory; until
 * then any of the changes made since may be there or not, each whole: a rename is one change. An fsync of a file does not bring its entry.
 */
#ifndef CRNN_TESTS_TRUST_CRASH_H
#define CRNN_TESTS_TRUST_CRASH_H

#include "trust/record.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct crash_disk crash_disk;

/* What lies below root now, all of it durable. The payloads that are applied later must outlive the disk. */
crash_disk *crash_new(const char *root);
void crash_free(crash_disk *disk);
/* One call of the program, as it was recorded. */
void crash_apply(crash_disk *disk, const trust_record *record, const char *payload);

/* Builds the states that a crash at this moment could leave, each in the directory `into`, which is made anew, and visits each that differs
 * from all since crash_forget. `effort`: how many ways of losing data are tried beside each choice of entries. Returns how many were visited. */
long crash_states(crash_disk *disk, const char *into, int effort, void (*visit)(void *user), void *user);
/* Visits states again that were visited before: something else is to be held against them now. */
void crash_forget(crash_disk *disk);

#endif
