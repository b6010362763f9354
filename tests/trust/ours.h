/* ours.h - which of the objects in a process an address belongs to; for the preloaded libraries. */
#ifndef CRNN_TESTS_TRUST_OURS_H
#define CRNN_TESTS_TRUST_OURS_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef enum { OBJECT_OTHER, OBJECT_PROGRAM, OBJECT_HELPER, OBJECT_CRYPTO, OBJECT_LIBC } object_kind;

typedef struct {
    uintptr_t begin, end;
    object_kind kind;
} object_range;

enum { MOST_RANGES = 256 };
static object_range ranges[MOST_RANGES];
static int range_count;

static inline object_kind kind_of_object(const char *name, int index)
{
    if (index == 0)
        return OBJECT_PROGRAM;
    if (strstr(name, "libjansson.") || strstr(name, "libutf8proc."))
        return OBJECT_HELPER;
    if (strstr(name, "libcrypto."))
        return OBJECT_CRYPTO;
    return strstr(name, "/libc.so") || strstr(name, "crnn-trust-") ? OBJECT_LIBC : OBJECT_OTHER;
}

static inline int add_object(struct dl_phdr_info *info, size_t size, void *index)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum && range_count < MOST_RANGES; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
            continue;
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        ranges[range_count++] =
            (object_range){begin, begin + part->p_memsz, kind_of_object(info->dlpi_name, *(int *)index)};
    }
    ++*(int *)index;
    return 0;
}

/* Once, before the other one. The program itself comes first in the list. */
static inline void list_objects(void)
{
    int index = 0;
    dl_iterate_phdr(add_object, &index);
}

static inline object_kind object_of(const void *address)
{
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)address >= ranges[i].begin && (uintptr_t)address < ranges[i].end)
            return ranges[i].kind;
    return OBJECT_OTHER;
}

#endif
