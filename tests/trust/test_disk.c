/* Disks: really full ones, limits on files, read-only and vanished directories, the warning before; and what retention may remove. */
#include "host/train/rundir.h"
#include "support/scratch.h"
#include "trust/trust.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *dir;
static trust_whole whole;

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_make_whole(&whole, dir, 15);
    assert_int_equal(scratch_shell(dir, "mkdir at small"), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

static void start(trial *t, const char *where, const char *option)
{
    const char *const arguments[] = {"train", whole.text, TRUST_TINY, "--max-steps", whole.steps,
                                     "--out", "run",      option,     NULL};
    trial_start(t, where, arguments);
}

/* --- a disk of its own ------------------------------------------------------------------------------------------------------ */

static bool write_line(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool fine = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return fine;
}

/* A name space in which this process may mount; by itself, or as the root of its own users. */
static bool may_mount(void)
{
    char map[60];
    unsigned user = getuid(), group = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_line("/proc/self/setgroups", "deny"))
            return false;
        snprintf(map, sizeof map, "0 %u 1", user);
        if (!write_line("/proc/self/uid_map", map))
            return false;
        snprintf(map, sizeof map, "0 %u 1", group);
        if (!write_line("/proc/self/gid_map", map))
            return false;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

enum { WELL, BADLY, NOT_HERE };

/* Calls inside in a process that has a file system of so many bytes at dir/small, and no one else has. Its result goes through. */
static int on_small_disk(long bytes, int (*inside)(const char *where, long number), long number)
{
    char where[300], options[60];
    int status;
    snprintf(where, sizeof where, "%s", scratch_path(dir, "small"));
    snprintf(options, sizeof options, "size=%ld", bytes);
    pid_t pid = fork();
    if (pid == 0) {
        if (!may_mount() || mount("none", where, "tmpfs", 0, options) != 0)
            _exit(NOT_HERE);
        _exit(inside(where, number));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return BADLY;
    return WEXITSTATUS(status);
}

/* All but `left` bytes taken, the run has to end by itself; with room again it goes on. */
static int fill_up(const char *where, long left)
{
    trial t = {0};
    char why[200] = "";
    if (scratch_shell(where, "head -c %ld /dev/zero >filler", 65536 - left) != 0)
        return BADLY;
    start(&t, where, "--json");
    trial_wait(&t);
    int64_t saved = trial_saved(t.words);
    bool fine = trial_ended_well(&t) && trust_intact(where, saved, why);
    bool told = t.status == 0 || strstr(t.words, "No space left") || strstr(t.words, "no checkpoint");
    bool clean = scratch_shell(where, "! ls -A run run/checkpoints 2>/dev/null | grep -q tmp") == 0;
    bool goes_on = scratch_shell(where, "rm filler") == 0 && trust_goes_on(&whole, where, saved, why);
    if (!fine || !told || !clean || !goes_on)
        print_error("status %d, saved %lld, %s; it said: %s\n", t.status, (long long)saved, why, t.words);
    trial_free(&t);
    return fine && told && clean && goes_on ? WELL : BADLY;
}

static void a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing(void **state)
{
    (void)state;
    tally t = {.promise =
                   "A full disk of 64 KiB, at every fill: ends by itself, nothing lost, goes on when there is room"};
    for (long left = 0; left <= 65536 - 4096; left += trust_pick(8192, 4096)) {
        int result = on_small_disk(65536, fill_up, left);
        if (result == NOT_HERE)
            skip();
        tally_trial(&t, result == WELL, "with %ld bytes left", left);
    }
    tally_end(&t);
}

static int nearly_fill(const char *where, long left)
{
    trial t = {0};
    if (scratch_shell(where, "head -c %ld /dev/zero >filler", 262144 - left) != 0)
        return BADLY;
    start(&t, where, "--json");
    trial_wait(&t);
    bool warned = strstr(t.words, "nearly full") != NULL;
    trial_free(&t);
    return warned == (left < 65536) ? WELL : BADLY;
}

static void a_disk_that_is_nearly_full_is_told_of(void **state)
{
    (void)state;
    if (on_small_disk(262144, nearly_fill, 24576) == NOT_HERE)
        skip();
    assert_int_equal(on_small_disk(262144, nearly_fill, 24576), WELL);
    assert_int_equal(on_small_disk(262144, nearly_fill, 262144), WELL); /* and not where there is room */
}

/* A run on a file system that can only be read: it can be looked at and written with, and training says why it cannot. */
static int read_only(const char *where, long number)
{
    trial t = {0};
    bool fine = scratch_shell(where, "cp -r ../whole/run .") == 0 &&
                mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0;
    (void)number;
    trial_do(&t, where, "train", "--resume", "run", "--max-steps", "20");
    fine = fine && t.status == 1 && strstr(t.words, "Read-only file system");
    trial_do(&t, where, "train", whole.text, TRUST_TINY, "--out", "other");
    fine = fine && t.status == 1 && strstr(t.words, "Read-only file system");
    trial_do(&t, where, "sample", "run", "--length", "5", "--device", "cpu");
    fine = fine && t.status == 0;
    trial_do(&t, where, "eval", "run", whole.text, "--device", "cpu");
    fine = fine && t.status == 0;
    trial_free(&t);
    return fine ? WELL : BADLY;
}

static void a_read_only_run_is_told_of_and_can_be_read(void **state)
{
    (void)state;
    int result = on_small_disk(1 << 20, read_only, 0);
    if (result == NOT_HERE)
        skip();
    assert_int_equal(result, WELL);
}

/* --- limits and what goes away ---------------------------------------------------------------------------------------------- */

static void a_limit_on_the_size_of_files_is_an_error_and_no_signal(void **state)
{
    (void)state;
    tally t = {.promise =
                   "A limit on files (SIGXFSZ), at random sizes: ends by itself, nothing lost, goes on without it"};
    for (long i = 0; i < trust_pick(12, 200); i++) {
        trial one = {.file_limit = 1000 + (long)trust_random(10000)};
        char why[200] = "", at[300];
        snprintf(at, sizeof at, "%s", scratch_path(dir, "at"));
        assert_int_equal(scratch_shell(dir, "rm -rf at/run"), 0);
        start(&one, at, "--json");
        trial_wait(&one);
        int64_t saved = trial_saved(one.words);
        tally_trial(&t, trial_ended_well(&one) && trust_intact(at, saved, why) && trust_goes_on(&whole, at, saved, why),
                    "limit %ld: status %d, %s; it said: %s", one.file_limit, one.status, why, one.words);
        trial_free(&one);
    }
    tally_end(&t);
}

static void a_run_that_vanishes_ends_training_with_a_sentence(void **state)
{
    (void)state;
    tally t = {.promise = "A run directory that vanishes while it trains: ends by itself with status 1"};
    for (long i = 0; i < trust_pick(4, 40); i++) {
        trial one = {0};
        char at[300];
        snprintf(at, sizeof at, "%s", scratch_path(dir, "at"));
        assert_int_equal(scratch_shell(dir, "rm -rf at/run"), 0);
        trial_start(
            &one, at,
            (const char *const[]){"train", whole.text, TRUST_TINY, "--max-steps", "100000", "--out", "run", NULL});
        for (int k = 0; k < 1000 && access(scratch_path(at, "run/config.json"), F_OK) != 0; k++)
            usleep(10000);
        usleep((unsigned)trust_random(50000));
        assert_int_equal(rename(scratch_path(at, "run"), scratch_path(at, "gone")), 0);
        trial_wait(&one);
        tally_trial(&t, one.status == 1 && trial_ended_well(&one) && strstr(one.words, "saves in a row failed"),
                    "status %d; it said: %s", one.status, one.words);
        assert_int_equal(scratch_shell(dir, "rm -rf at/gone"), 0);
        trial_free(&one);
    }
    tally_end(&t);
}

static void output_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    static const char *const sample[] = {"sample", "whole/run", "--length", "20", "--device", "cpu", NULL};
    static const char *const eval[] = {"eval", "whole/run", "a.txt", "--device", "cpu", NULL};
    static const char *const info[] = {"info", "whole/run", NULL};
    static const char *const corpus[] = {"corpus", "a.txt", NULL};
    static const char *const help[] = {"--help", NULL};
    const char *const *const commands[] = {sample, eval, info, corpus, help};
    for (int i = 0; i < 5; i++) {
        trial t = {.out = "/dev/full"};
        trial_start(&t, dir, commands[i]);
        trial_wait(&t);
        if (t.status != 1 || !strstr(t.words, "standard output"))
            fail_msg("%s: status %d, %s", commands[i][0], t.status, t.words);
        trial_free(&t);
    }
}

/* --- retention -------------------------------------------------------------------------------------------------------------- */

static bool exists(const char *checkpoints, int64_t step)
{
    char name[CRNN_CHECKPOINT_NAME];
    return access(scratch_path(checkpoints, crnn_checkpoint_name(name, step)), F_OK) == 0;
}

/* Names that are nearly those of checkpoints, and things of such names that are no files. */
static const char foreign[] =
    "touch ckpt-1.safetensors ckpt-00000000010.safetensors ckpt-0000000001.safetensors.bak CKPT-0000000001.safetensors "
    "'ckpt-000000001 .safetensors' ckpt--000000001.safetensors notes.txt x-ckpt-0000000002.safetensors && "
    "mkdir ckpt-0000000003.safetensors && ln -s notes.txt ckpt-0000000004.safetensors && mkfifo "
    "ckpt-0000000005.safetensors";

static bool foreign_ones_are_there(const char *checkpoints)
{
    return scratch_shell(checkpoints,
                         "test $(ls -A | grep -vE '^ckpt-0000001[0-9]{3}[.]safetensors$' | wc -l) = 11 && test -p "
                         "ckpt-0000000005.safetensors && test -L ckpt-0000000004.safetensors") == 0;
}

static void retention_keeps_the_best_and_what_it_did_not_write(void **state)
{
    (void)state;
    enum { RANGE = 60 };
    tally t = {.promise = "Retention: the newest stay, the best stays, what it did not write stays"};
    for (long i = 0; i < trust_pick(40, 1000); i++) {
        bool there[RANGE] = {0};
        char at[300], name[CRNN_CHECKPOINT_NAME];
        assert_int_equal(scratch_shell(dir, "rm -rf kept && mkdir kept && cd kept && %s", foreign), 0);
        snprintf(at, sizeof at, "%s", scratch_path(dir, "kept"));
        for (int k = 0; k < RANGE; k++)
            if ((there[k] = trust_random(3) == 0))
                scratch_text(at, crnn_checkpoint_name(name, 1000 + k), "");
        int64_t keep = 1 + (int64_t)trust_random(6), newest = (int64_t)trust_random(RANGE),
                best = (int64_t)trust_random(RANGE);
        int64_t back = trust_random(2) ? (int64_t)trust_random(40) : 0;
        bool fine = crnn_rundir_prune(at, keep, 1000 + newest, 1000 + best, back, NULL) == CRNN_OK &&
                    foreign_ones_are_there(at);
        int64_t seen = 0, spared = 0;
        for (int64_t k = RANGE - 1; k >= 0; k--) {
            bool stays = there[k] && (k > newest || k == best || seen < keep);
            fine = fine && (!stays || exists(at, 1000 + k)) && (there[k] || !exists(at, 1000 + k));
            spared += exists(at, 1000 + k) && !stays;
            seen += there[k] && k <= newest;
        }
        fine = fine && spared <= (back > 0 ? 2 : 0); /* those to go back to */
        tally_trial(&t, fine, "keep %lld, newest %lld, best %lld, back %lld: %lld too many", (long long)keep,
                    (long long)newest, (long long)best, (long long)back, (long long)spared);
    }
    tally_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing),
        cmocka_unit_test(a_disk_that_is_nearly_full_is_told_of),
        cmocka_unit_test(a_read_only_run_is_told_of_and_can_be_read),
        cmocka_unit_test(a_limit_on_the_size_of_files_is_an_error_and_no_signal),
        cmocka_unit_test(a_run_that_vanishes_ends_training_with_a_sentence),
        cmocka_unit_test(output_that_cannot_be_written_is_an_error),
        cmocka_unit_test(retention_keeps_the_best_and_what_it_did_not_write),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
