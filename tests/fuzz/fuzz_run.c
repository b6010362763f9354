/* config.json, a zero byte, history.jsonl: the files of a run that a sound checkpoint belongs to. */
#include "fuzz.h"
#include <crnn/crnn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[PATH_MAX];

static void remove_run(void)
{
    static const char *const names[] = {"checkpoints/ckpt-0000000004.safetensors", "checkpoints", "config.json",
                                        "history.jsonl", ""};
    char path[PATH_MAX + 100];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        remove(path);
    }
}

/* A checkpoint at step 4, of a text of 33 characters in one row of 4: 8 steps an epoch. */
static void make_run(void)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_MAX + 100];
    const crnn_model_sizes sizes = {3, 2, 2, 1, 0};
    crnn_checkpoint *c = crnn_checkpoint_new(&sizes, 1, true, NULL);
    snprintf(directory, sizeof directory, "%s/crnn-fuzz-XXXXXX", base && *base ? base : "/tmp");
    ALWAYS(c && mkdtemp(directory));
    atexit(remove_run);
    snprintf(path, sizeof path, "%s/checkpoints", directory);
    ALWAYS(mkdir(path, 0700) == 0);
    for (uint32_t v = 0; v < 3; v++)
        c->vocab[v] = 'a' + v;
    c->step = c->position = c->count = 4;
    c->loss_last = 1.5;
    c->seed = 1;
    c->corpus_characters = 33;
    c->options = strdup("{\"log-every\":1}");
    ALWAYS(crnn_checkpoint_write(c, path, "ckpt-0000000004.safetensors", NULL, NULL, NULL) == CRNN_OK);
    crnn_checkpoint_free(c);
}

static void put(const char *name, const void *data, size_t size)
{
    char path[PATH_MAX + 100];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    ALWAYS(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static int told, bad;

static void tell(void *user, const char *path, bool sound, const char *what)
{
    (void)user;
    told++;
    bad += !sound;
    ALWAYS(path[0] && what[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t config = zero ? (size_t)(zero - data) : size;
    if (!directory[0])
        make_run();
    put("config.json", data, config);
    put("history.jsonl", zero ? zero + 1 : data, zero ? size - config - 1 : 0);
    told = bad = 0;
    crnn_status status = crnn_verify(directory, tell, NULL, NULL);
    ALWAYS(status == (bad ? CRNN_ERR_FORMAT : CRNN_OK));
    ALWAYS(told == 3);
    crnn_replay *replay = crnn_replay_plan(directory, 3, NULL);
    ALWAYS(!replay || (replay->last > 4 && replay->last <= 7 && replay->from->step == 4));
    crnn_replay_free(replay);
    return 0;
}
