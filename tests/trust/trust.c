#include "trust/trust.h"
#include "host/base/files.h"
#include "host/base/sha256.h"
#include "support/scratch.h"
#include <crnn/crnn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool trust_long(void)
{
    const char *tier = getenv("CRNN_TRUST");
    return tier && strcmp(tier, "long") == 0;
}

long trust_pick(long in_short, long in_long)
{
    return trust_long() ? in_long : in_short;
}

uint64_t trust_random(uint64_t n)
{
    static uint64_t state = 88172645463325252U; /* xorshift64, Marsaglia 2003 */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % n;
}

/* --- counting --------------------------------------------------------------------------------------------------------------- */

bool tally_trial(tally *t, bool fine, const char *format, ...)
{
    enum { TOLD = 10 };
    t->trials++;
    if (!fine && t->failures++ < TOLD) {
        char text[2000];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        print_error("%s: %s\n", t->promise, text);
    }
    return fine;
}

static void add_to_table(const char *promise, const char *figures)
{
    const char *table = getenv("CRNN_TRUST_TABLE");
    FILE *file = table ? fopen(table, "a") : NULL;
    print_message("%s: %s\n", promise, figures);
    if (file) {
        fprintf(file, "%s\t%s\n", promise, figures);
        fclose(file);
    }
}

void tally_end(const tally *t)
{
    char figures[80];
    snprintf(figures, sizeof figures, "%ld trials, %ld failures", t->trials, t->failures);
    add_to_table(t->promise, figures);
    assert_int_equal(t->failures, 0);
    assert_true(t->trials > 0);
}

void tally_note(const char *promise, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add_to_table(promise, text);
}

/* --- running ---------------------------------------------------------------------------------------------------------------- */

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

double trust_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char log_path[300], counters_path[300]; /* counters: of a build for coverage, of no use where it is killed */

static void remove_log(void)
{
    unlink(log_path);
    scratch_remove(strdup(counters_path));
}

static void choose_log(void)
{
    const char *base = getenv("TMPDIR");
    if (log_path[0])
        return;
    snprintf(log_path, sizeof log_path, "%s/crnn-trust-%ld.log", base && *base ? base : "/tmp", (long)getpid());
    snprintf(counters_path, sizeof counters_path, "%s/crnn-trust-%ld.gcov", base && *base ? base : "/tmp",
             (long)getpid());
    atexit(remove_log);
}

/* In the child: what the recorders shall do, and that nothing else of this build disturbs it. */
static void set_environment(const trial *t)
{
    const char *calls = getenv("CRNN_TRUST_CALLS"), *memory = getenv("CRNN_TRUST_MEMORY");
    char number[32];
    snprintf(number, sizeof number, "%ld", t->allocation);
    setenv("TRUST_LOG", log_path, 1);
    if (t->plan)
        setenv("TRUST_PLAN", t->plan, 1);
    if (t->root)
        setenv("TRUST_ROOT", t->root, 1);
    if (t->allocation) {
        setenv("TRUST_NTH", number, 1);
        if (t->crypto)
            setenv("TRUST_CRYPTO", "yes", 1);
        setenv("LD_PRELOAD", memory ? memory : "", 1);
    } else if (t->plan || t->root) {
        setenv("LD_PRELOAD", calls ? calls : "", 1);
    }
    /* A finding of a sanitizer must not look like a status of the program. */
    setenv("ASAN_OPTIONS",
           t->under ? "verify_asan_link_order=0:detect_leaks=0" /* it does not look for them below a tracer */
                    : "verify_asan_link_order=0:exitcode=99:allocator_may_return_null=1",
           1);
    setenv("LSAN_OPTIONS", "print_suppressions=0:suppressions=" CRNN_SOURCE_DIR "/tests/trust/leaks-elsewhere.txt", 1);
    setenv("UBSAN_OPTIONS", "exitcode=99:print_stacktrace=1", 1);
    setenv("GCOV_PREFIX", counters_path, 1);
}

static void become(const trial *t, const char *dir, const char *const *arguments)
{
    enum { MOST = 80 };
    char *argv[MOST + 2], *words = t->under ? strdup(t->under) : NULL;
    const char *program = getenv("CRNN_PROGRAM");
    int count = 0;
    for (char *word = words ? strtok(words, " ") : NULL; word; word = strtok(NULL, " "))
        argv[count++] = word;
    argv[count++] = (char *)(uintptr_t)(program ? program : "crnn-gpu");
    for (int i = 0; arguments[i] && count < MOST; i++)
        argv[count++] = (char *)(uintptr_t)arguments[i];
    argv[count] = NULL;
    int in = open("/dev/null", O_RDONLY), out = open(t->out ? t->out : "/dev/null", O_WRONLY);
    int err = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    set_environment(t);
    if (t->file_limit && setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)t->file_limit, (rlim_t)t->file_limit}) != 0)
        _exit(127);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir(dir) != 0)
        _exit(127);
    execvp(argv[0], argv);
    _exit(127);
}

void trial_start(trial *t, const char *dir, const char *const *arguments)
{
    trial_free(t);
    choose_log();
    if (!t->append) /* here, since a child may be killed before it comes to it */
        unlink(log_path);
    t->seconds = trust_now();
    t->pid = fork();
    if (t->pid < 0)
        give_up("fork");
    if (t->pid == 0)
        become(t, dir, arguments);
}

/* Separates what the program said from the records in between. */
static void find_words(trial *t)
{
    char *to = t->words = malloc(t->log_size + 1);
    if (!to)
        give_up("memory");
    t->injected[0] = 0;
    for (size_t i = 0; i < t->log_size;) {
        trust_record record;
        if (t->log[i] != RECORD_MARK[0] || t->log_size - i < sizeof record) {
            *to++ = t->log[i++];
            continue;
        }
        memcpy(&record, t->log + i, sizeof record);
        if (record.kind == RECORD_INJECTED)
            snprintf(t->injected, sizeof t->injected, "%.*s", (int)record.size, t->log + i + sizeof record);
        i += sizeof record + record.size;
    }
    *to = 0;
}

void trial_wait(trial *t)
{
    int status;
    crnn_error err = {CRNN_OK, ""};
    if (waitpid(t->pid, &status, 0) != t->pid)
        give_up("waitpid");
    t->seconds = trust_now() - t->seconds;
    t->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    int there =
        open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600); /* the same for one that was killed before it made it */
    t->log = there < 0 || close(there) != 0 ? NULL : crnn_read_file(log_path, (int64_t)1 << 32, &t->log_size, &err);
    if (!t->log)
        give_up(err.text);
    find_words(t);
}

bool trial_said(const char *text)
{
    for (int i = 0; i < 3000; i++) {
        size_t size;
        char *said = crnn_read_file(log_path, (int64_t)1 << 32, &size, NULL);
        bool found = said && memmem(said, size, text, strlen(text));
        free(said);
        if (found)
            return true;
        usleep(10000);
    }
    return false;
}

void trial_free(trial *t)
{
    free(t->log);
    free(t->words);
    t->log = t->words = NULL;
}

int64_t trial_saved(const char *words)
{
    int64_t most = -1;
    for (const char *at = words; (at = strstr(at, "saved step ")); at++) {
        int64_t step = strtoll(at + 11, NULL, 10);
        most = step > most ? step : most;
    }
    return most;
}

bool trial_ended_well(const trial *t)
{
    if (t->status == 0)
        return true;
    return t->status >= 1 && t->status <= 5 && strstr(t->words, "crnn-gpu") != NULL;
}

bool trial_can_record(const char *dir)
{
    trial t = {.plan = "5:1"};
    trial_do(&t, dir, "corpus", "no such file");
    bool works = t.injected[0] != 0;
    trial_free(&t);
    return works;
}

/* --- runs ------------------------------------------------------------------------------------------------------------------- */

char *trust_scratch(void)
{
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK | X_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return scratch_new();
}

void trust_text(const char *dir, const char *name, size_t size)
{
    static const char line[] = "la gata bebe agua y el perro come pan\n";
    char *text = malloc(size);
    if (!text)
        give_up("memory");
    for (size_t i = 0; i < size; i++)
        text[i] = line[i * (1 + i / 900) % 38];
    scratch_write(dir, name, text, size);
    free(text);
}

/* Removes from the history what a clock says: an epoch's seconds and rate stand at the end of its line. */
static size_t without_clocks(char *text)
{
    char *to = text;
    for (char *from = text; *from;) {
        size_t line = strcspn(from, "\n");
        char *clock = memmem(from, line, ",\"seconds\":", 11);
        size_t kept = clock ? (size_t)(clock - from) : line;
        memmove(to, from, kept);
        to += kept;
        *to++ = '\n';
        from += line + (from[line] == '\n');
    }
    return (size_t)(to - text);
}

static bool add_file(crnn_sha256 *hash, const char *path, bool history, char why[200])
{
    crnn_error err = {CRNN_OK, ""};
    size_t size;
    char *text = crnn_read_file(path, (int64_t)1 << 30, &size, &err);
    snprintf(why, 200, "%.199s", err.text);
    if (!text)
        return false;
    crnn_sha256_add(hash, text, history ? without_clocks(text) : size);
    free(text);
    return true;
}

bool trust_digest(uint8_t digest[32], const char *dir, const char *run, int64_t step, char why[200])
{
    char name[300];
    crnn_sha256 *hash = crnn_sha256_new();
    snprintf(name, sizeof name, "%s/checkpoints/ckpt-%010lld.safetensors", run, (long long)step);
    bool fine = add_file(hash, scratch_path(dir, name), false, why);
    snprintf(name, sizeof name, "%s/history.jsonl", run);
    fine = fine && add_file(hash, scratch_path(dir, name), true, why) && crnn_sha256_end(hash, digest);
    crnn_sha256_free(hash);
    return fine;
}

static void count_note(void *user, const char *sentence)
{
    (void)sentence;
    ++*(int *)user;
}

int64_t trust_newest(const char *run_path, int *passed)
{
    int notes = 0;
    crnn_checkpoint *ckpt = crnn_checkpoint_find(run_path, false, NULL, count_note, &notes, NULL);
    int64_t step = ckpt ? ckpt->step : -1;
    crnn_checkpoint_free(ckpt);
    if (passed)
        *passed = notes;
    return step;
}

void trust_make_whole(trust_whole *whole, const char *dir, int64_t steps)
{
    char why[200];
    trial t = {0};
    trust_text(dir, "a.txt", 1200);
    snprintf(whole->text, sizeof whole->text, "%s", scratch_path(dir, "a.txt"));
    snprintf(whole->steps, sizeof whole->steps, "%lld", (long long)steps);
    whole->end = steps;
    assert_int_equal(scratch_shell(dir, "rm -rf whole && mkdir whole"), 0);
    const char *where = scratch_path(dir, "whole");
    trial_do(&t, where, "train", whole->text, TRUST_TINY, "--max-steps", whole->steps, "--out", "run");
    if (t.status != 0 || !trust_digest(whole->digest, where, "run", steps, why))
        fail_msg("the undisturbed run: status %d, %s", t.status, t.words);
    whole->seconds = t.seconds;
    trial_free(&t);
}

bool trust_intact(const char *where, int64_t saved, char why[200])
{
    int passed;
    int64_t found = trust_newest(scratch_path(where, "run"), &passed);
    snprintf(why, 200, "step %lld was reported as saved; found is %lld, passed over %d", (long long)saved,
             (long long)found, passed);
    return found >= saved && passed == 0;
}

bool trust_goes_on(const trust_whole *whole, const char *where, int64_t saved, char why[200])
{
    trial t = {0};
    uint8_t digest[32];
    trial_do(&t, where, "train", "--resume", "run", "--max-steps", whole->steps);
    if (t.status != 0 && saved < 0)
        trial_do(&t, where, "train", whole->text, TRUST_TINY, "--max-steps", whole->steps, "--out", "run");
    snprintf(why, 200, "going on gave status %d: %.150s", t.status, t.words);
    bool fine = t.status == 0 && trust_digest(digest, where, "run", whole->end, why);
    if (fine && memcmp(digest, whole->digest, sizeof digest) != 0) {
        snprintf(why, 200, "went on to something else than the undisturbed run");
        fine = false;
    }
    trial_free(&t);
    return fine;
}
