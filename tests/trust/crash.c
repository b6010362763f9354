#include "trust/crash.h"
#include "host/base/files.h"
#include "host/base/sha256.h"
#include "support/scratch.h"
#include "trust/trust.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_NODES = 4000, MOST_PENDING = 20, ALL_SUBSETS = 8, SOME_SUBSETS = 128, BLOCK = 512, NONE = -1 };

typedef struct {
    int64_t offset;
    size_t size;
    const char *data;
} data_change;

typedef struct {
    char *name;
    int node; /* NONE: no such entry */
} entry;

/* Of a directory: one or two entries at once. */
typedef struct {
    entry set[2];
    int count;
} entry_change;

typedef struct {
    uint64_t inode;
    bool directory;
    char *data; /* what is durable of a file */
    size_t size;
    data_change *writes; /* since its last fsync */
    int write_count;
    entry *entries; /* what is durable of a directory */
    int entry_count;
    entry_change changes[MOST_PENDING]; /* since its last fsync */
    int change_count;
} node;

typedef struct {
    unsigned char digest[32];
} state_digest;

struct crash_disk {
    char root[PATH_MAX];
    node *nodes; /* [0] is the root */
    int count;
    unsigned kept[MOST_NODES]; /* by directory: which of its changes are there, a bit each */
    int variant[MOST_NODES];   /* by file: what is there of its writes */
    state_digest *seen;
    long seen_count, seen_room;
};

static void *need(void *memory)
{
    if (memory)
        return memory;
    perror("memory");
    exit(1);
}

/* --- what the program sees -------------------------------------------------------------------------------------------------- */

static int new_node(crash_disk *disk, uint64_t inode, bool directory)
{
    if (disk->count == MOST_NODES)
        fail_msg("more than %d files were made", MOST_NODES);
    disk->nodes[disk->count] = (node){.inode = inode, .directory = directory};
    return disk->count++;
}

static int node_of_inode(const crash_disk *disk, uint64_t inode)
{
    for (int i = disk->count - 1; i >= 0; i--) /* the last: a number is used again after its file is gone */
        if (disk->nodes[i].inode == inode)
            return i;
    return NONE;
}

/* The entry of that name, where those of the changes are made whose bits are set. */
static int look_up(const node *directory, const char *name, unsigned kept)
{
    for (int i = directory->change_count - 1; i >= 0; i--)
        for (int k = 0; k < directory->changes[i].count && kept >> i & 1; k++)
            if (strcmp(directory->changes[i].set[k].name, name) == 0)
                return directory->changes[i].set[k].node;
    for (int i = 0; i < directory->entry_count; i++)
        if (strcmp(directory->entries[i].name, name) == 0)
            return directory->entries[i].node;
    return NONE;
}

/* The directory that path is an entry of; *name becomes its last part. */
static int parent_of(const crash_disk *disk, const char *path, const char **name)
{
    const char *at = path + strlen(disk->root) + 1, *slash;
    int directory = 0;
    while ((slash = strchr(at, '/'))) {
        char part[NAME_MAX + 1];
        snprintf(part, sizeof part, "%.*s", (int)(slash - at), at);
        directory = look_up(&disk->nodes[directory], part, ~0U);
        if (directory == NONE)
            fail_msg("%s is in no directory that the trace knows", path);
        at = slash + 1;
    }
    *name = at;
    return directory;
}

static void change_entries(crash_disk *disk, int directory, const entry *set, int count)
{
    node *d = &disk->nodes[directory];
    if (d->change_count == MOST_PENDING)
        fail_msg("more than %d changes of a directory without an fsync", MOST_PENDING);
    entry_change *change = &d->changes[d->change_count++];
    change->count = count;
    for (int i = 0; i < count; i++)
        change->set[i] = (entry){need(strdup(set[i].name)), set[i].node};
}

static void set_durable_entry(node *directory, const char *name, int target)
{
    for (int i = 0; i < directory->entry_count; i++)
        if (strcmp(directory->entries[i].name, name) == 0) {
            directory->entries[i].node = target;
            return;
        }
    directory->entries = need(realloc(directory->entries, ((size_t)directory->entry_count + 1) * sizeof(entry)));
    directory->entries[directory->entry_count++] = (entry){need(strdup(name)), target};
}

static size_t size_with(const node *file)
{
    size_t size = file->size;
    for (int i = 0; i < file->write_count; i++) {
        size_t end = (size_t)file->writes[i].offset + file->writes[i].size;
        size = end > size ? end : size;
    }
    return size;
}

static void write_into(char *data, const data_change *w)
{
    memcpy(data + w->offset, w->data, w->size);
}

static void make_durable(node *n)
{
    for (int i = 0; i < n->change_count; i++)
        for (int k = 0; k < n->changes[i].count; k++) {
            set_durable_entry(n, n->changes[i].set[k].name, n->changes[i].set[k].node);
            free(n->changes[i].set[k].name);
        }
    n->change_count = 0;
    size_t size = size_with(n);
    if (size > n->size) {
        n->data = need(realloc(n->data, size));
        memset(n->data + n->size, 0, size - n->size);
        n->size = size;
    }
    for (int i = 0; i < n->write_count; i++)
        write_into(n->data, &n->writes[i]);
    n->write_count = 0;
}

static void open_file(crash_disk *disk, const trust_record *record, const char *path)
{
    const char *name;
    if (record->created) {
        int directory = parent_of(disk, path, &name), file = new_node(disk, record->inode, false);
        change_entries(disk, directory, &(entry){(char *)(uintptr_t)name, file}, 1);
    } else if (record->truncated) {
        int file = node_of_inode(disk, record->inode);
        if (file != NONE && size_with(&disk->nodes[file]) > 0)
            fail_msg("%s is cut to nothing, which the model does not know", path);
    }
}

void crash_apply(crash_disk *disk, const trust_record *record, const char *payload)
{
    char *path = need(strndup(payload, record->size));
    const char *name, *to = payload + strlen(path) + 1;
    int at = record->kind == RECORD_WRITE || record->kind == RECORD_SYNC ? node_of_inode(disk, record->inode) : NONE;
    node *n = &disk->nodes[at == NONE ? 0 : at];
    switch ((record_kind)record->kind) {
    case RECORD_OPEN:
        open_file(disk, record, path);
        break;
    case RECORD_WRITE:
        if (at == NONE)
            fail_msg("a write to a file that the trace does not know");
        n->writes = need(realloc(n->writes, ((size_t)n->write_count + 1) * sizeof *n->writes));
        n->writes[n->write_count++] = (data_change){record->offset, record->size, payload};
        break;
    case RECORD_SYNC:
        if (at != NONE)
            make_durable(n);
        break;
    case RECORD_RENAME: {
        int directory = parent_of(disk, path, &name);
        int file = look_up(&disk->nodes[directory], name, ~0U);
        const char *new_name;
        if (parent_of(disk, to, &new_name) != directory)
            fail_msg("%s goes to another directory, which the model does not know", path);
        entry set[2] = {{(char *)(uintptr_t)name, NONE}, {(char *)(uintptr_t)new_name, file}};
        change_entries(disk, directory, set, 2);
        break;
    }
    case RECORD_UNLINK:
    case RECORD_MKDIR: {
        int directory = parent_of(disk, path, &name);
        int made = record->kind == RECORD_MKDIR ? new_node(disk, record->inode, true) : NONE;
        change_entries(disk, directory, &(entry){(char *)(uintptr_t)name, made}, 1);
        break;
    }
    case RECORD_INJECTED:
        break;
    }
    free(path);
}

/* --- what is there at the start --------------------------------------------------------------------------------------------- */

static void load(crash_disk *disk, int at, const char *path)
{
    DIR *listing = opendir(path);
    if (!listing)
        fail_msg("cannot list %s", path);
    for (struct dirent *found; (found = readdir(listing));) {
        struct stat info;
        char name[PATH_MAX];
        crnn_error err = {CRNN_OK, ""};
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, found->d_name);
        if (lstat(name, &info) != 0)
            fail_msg("cannot look at %s", name);
        int child = new_node(disk, info.st_ino, S_ISDIR(info.st_mode));
        set_durable_entry(&disk->nodes[at], found->d_name, child);
        if (S_ISDIR(info.st_mode))
            load(disk, child, name);
        else
            disk->nodes[child].data = need(crnn_read_file(name, 1 << 30, &disk->nodes[child].size, &err));
    }
    closedir(listing);
}

crash_disk *crash_new(const char *root)
{
    struct stat info;
    crash_disk *disk = need(calloc(1, sizeof *disk));
    disk->nodes = need(calloc(MOST_NODES, sizeof *disk->nodes));
    snprintf(disk->root, sizeof disk->root, "%s", root);
    if (stat(root, &info) != 0)
        fail_msg("cannot look at %s", root);
    load(disk, new_node(disk, info.st_ino, true), root);
    return disk;
}

void crash_free(crash_disk *disk)
{
    for (int i = 0; disk && i < disk->count; i++) {
        node *n = &disk->nodes[i];
        make_durable(n); /* moves the names to where they are freed */
        for (int k = 0; k < n->entry_count; k++)
            free(n->entries[k].name);
        free(n->entries);
        free(n->writes);
        free(n->data);
    }
    if (disk)
        free(disk->nodes);
    if (disk)
        free(disk->seen);
    free(disk);
}

/* --- a state ---------------------------------------------------------------------------------------------------------------- */

/* The ways of losing data that are tried first; whatever effort remains goes to random ones. */
enum { LOST_NOTHING, LOST_EVERYTHING, LOST_SECOND_HALF, LOST_LAST_WRITE, LOST_CONTENTS, LOST_ALL_BUT_LAST, LOST_FIXED };

static bool write_is_there(const node *file, int variant, int i)
{
    int count = file->write_count;
    switch (variant) {
    case LOST_NOTHING:
        return true;
    case LOST_EVERYTHING:
    case LOST_CONTENTS:
        return false;
    case LOST_SECOND_HALF:
        return i < count / 2;
    case LOST_LAST_WRITE:
        return i < count - 1;
    default:
        return i == count - 1;
    }
}

/* Any of the blocks, or all up to one of them: the variant says which, the same each time. */
static void lose_at_random(char *data, size_t *size, const node *file, int variant)
{
    size_t draw = (size_t)variant * 2654435761U >> 7, end = draw / 2 % (*size / BLOCK + 2) * BLOCK;
    bool cut = draw % 2 == 0;
    for (int i = 0; i < file->write_count; i++) {
        const data_change *w = &file->writes[i];
        for (size_t k = 0; k < w->size; k++) {
            size_t at = (size_t)w->offset + k;
            if (cut ? at < end : (at / BLOCK * 2654435761U + draw) >> 9 & 1)
                data[at] = w->data[k];
        }
    }
    if (cut && end < *size)
        *size = end > file->size ? end : file->size;
}

/* What the file holds; malloc'd. */
static char *contents_of(const node *file, int variant, size_t *size)
{
    size_t whole = size_with(file);
    char *data = need(calloc(whole + 1, 1));
    memcpy(data, file->data ? file->data : "", file->size);
    *size = whole;
    if (variant >= LOST_FIXED) {
        lose_at_random(data, size, file, variant);
        return data;
    }
    *size = variant == LOST_CONTENTS || variant == LOST_ALL_BUT_LAST ? whole : file->size;
    for (int i = 0; i < file->write_count; i++)
        if (write_is_there(file, variant, i)) {
            size_t end = (size_t)file->writes[i].offset + file->writes[i].size;
            write_into(data, &file->writes[i]);
            *size = end > *size ? end : *size;
        }
    return data;
}

/* Puts a directory of the state at path, or, where path is NULL, only into the hash. */
static void build(const crash_disk *disk, int at, const char *path, crnn_sha256 *hash);

static void build_entry(const crash_disk *disk, const char *name, int at, const char *path, crnn_sha256 *hash)
{
    char whole[PATH_MAX];
    const node *n = &disk->nodes[at];
    snprintf(whole, sizeof whole, "%s/%s", path ? path : "", name);
    if (hash)
        crnn_sha256_add(hash, name, strlen(name) + 1);
    if (n->directory) {
        build(disk, at, path ? whole : NULL, hash);
        return;
    }
    size_t size;
    char *data = contents_of(n, disk->variant[at], &size);
    if (hash) {
        crnn_sha256_add(hash, &size, sizeof size);
        crnn_sha256_add(hash, data, size);
    }
    FILE *file = path ? fopen(whole, "wb") : NULL;
    if (path && (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0))
        fail_msg("cannot write %s", whole);
    free(data);
}

static void build(const crash_disk *disk, int at, const char *path, crnn_sha256 *hash)
{
    const node *d = &disk->nodes[at];
    unsigned kept = disk->kept[at];
    if (path && mkdir(path, 0777) != 0)
        fail_msg("cannot make %s", path);
    for (int i = 0; i < d->entry_count; i++) {
        int target = look_up(d, d->entries[i].name, kept);
        if (target != NONE)
            build_entry(disk, d->entries[i].name, target, path, hash);
    }
    for (int i = 0; i < d->change_count; i++)
        for (int k = 0; k < d->changes[i].count && kept >> i & 1; k++) {
            const entry *e = &d->changes[i].set[k];
            /* Each name once: where its last change is, and not what the durable ones gave already. */
            bool last = look_up(d, e->name, 0) == NONE;
            for (int later = i + 1; later < d->change_count; later++)
                for (int m = 0; m < d->changes[later].count && kept >> later & 1; m++)
                    last = last && strcmp(d->changes[later].set[m].name, e->name) != 0;
            if (last && e->node != NONE)
                build_entry(disk, e->name, e->node, path, hash);
        }
    if (hash)
        crnn_sha256_add(hash, "/", 2);
}

/* --- all of them ------------------------------------------------------------------------------------------------------------ */

static bool is_new(crash_disk *disk, const unsigned char digest[32])
{
    for (long i = 0; i < disk->seen_count; i++)
        if (memcmp(disk->seen[i].digest, digest, 32) == 0)
            return false;
    if (disk->seen_count == disk->seen_room) {
        disk->seen_room = 2 * disk->seen_room + 256;
        disk->seen = need(realloc(disk->seen, (size_t)disk->seen_room * sizeof *disk->seen));
    }
    memcpy(disk->seen[disk->seen_count++].digest, digest, 32);
    return true;
}

/* The state that kept and variant describe, where it is a new one. */
static bool visit_state(crash_disk *disk, const char *into, void (*visit)(void *user), void *user)
{
    unsigned char digest[32];
    crnn_sha256 *hash = crnn_sha256_new();
    build(disk, 0, NULL, hash);
    bool fresh = crnn_sha256_end(hash, digest) && is_new(disk, digest);
    crnn_sha256_free(hash);
    if (!fresh)
        return false;
    scratch_remove(need(strdup(into)));
    build(disk, 0, into, NULL);
    visit(user);
    return true;
}

/* Every way of losing data, with the entries as they are chosen. */
static long visit_losses(crash_disk *disk, const char *into, int effort, void (*visit)(void *user), void *user)
{
    long visited = 0;
    for (int v = 0; v < LOST_FIXED + effort; v++) {
        for (int i = 0; i < disk->count; i++)
            disk->variant[i] = v < LOST_FIXED ? v : LOST_FIXED + (int)trust_random(1 << 30);
        visited += visit_state(disk, into, visit, user);
    }
    return visited;
}

long crash_states(crash_disk *disk, const char *into, int effort, void (*visit)(void *user), void *user)
{
    int changes = 0;
    long visited = 0;
    for (int i = 0; i < disk->count; i++)
        changes += disk->nodes[i].change_count;
    long subsets = changes <= ALL_SUBSETS ? 1L << changes : SOME_SUBSETS;
    for (long s = 0; s < subsets; s++) {
        uint64_t bits = changes <= ALL_SUBSETS ? (uint64_t)s : trust_random((uint64_t)1 << 40);
        for (int i = 0; i < disk->count; i++) {
            int own = disk->nodes[i].change_count;
            disk->kept[i] = (unsigned)(bits & ((1U << own) - 1));
            bits >>= own;
        }
        visited += visit_losses(disk, into, effort, visit, user);
    }
    return visited;
}

void crash_forget(crash_disk *disk)
{
    disk->seen_count = 0;
}
