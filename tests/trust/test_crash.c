/* Crashes of the machine: from the calls of real runs, every state that a crash could leave is built and read back.
 *
 * Loops of kill -9 cannot show this, since what was written survives them. That the proof is none of words alone is shown by three mutants: the
 * same calls without the fsync of files, without the fsync of directories, and written in place. Each must be caught. */
#include "support/scratch.h"
#include "trust/crash.h"
#include "trust/trust.h"
#include <crnn/crnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum { SOUND, NO_FILE_SYNC, NO_DIRECTORY_SYNC, IN_PLACE } mutation;

enum { MOST_STEPS = 64 };

/* What a trace has promised so far, and what the states have to say to it. */
typedef struct {
    mutation how;
    const char *state;                       /* the directory of the state at hand */
    bool said[MOST_STEPS], gone[MOST_STEPS]; /* reported as saved; removal begun */
    int64_t last_said;
    tally read_back;
    long unreadable, lost, history_short, resumed;
    long every; /* how many states between two that are continued */
    trust_whole whole;
} proof;

static char *dir;

static int begin(void **state)
{
    (void)state;
    dir = trust_scratch();
    trust_text(dir, "a.txt", 1200);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* --- one state -------------------------------------------------------------------------------------------------------------- */

/* How many steps the history holds whole, from the first without a gap. */
static int64_t history_steps(const char *state)
{
    char line[1200];
    int64_t steps = 0;
    FILE *file = fopen(scratch_path(state, "run/history.jsonl"), "r");
    while (file && fgets(line, sizeof line, file)) {
        long long step;
        if (sscanf(line, "{\"event\":\"step\",\"step\":%lld,", &step) == 1 && step == steps + 1 && strchr(line, '\n'))
            steps++;
    }
    if (file)
        fclose(file);
    return steps;
}

static bool has_checkpoint(const char *state, int64_t step)
{
    char name[80];
    snprintf(name, sizeof name, "run/checkpoints/ckpt-%010lld.safetensors", (long long)step);
    crnn_checkpoint *ckpt = crnn_checkpoint_read(scratch_path(state, name), NULL);
    bool fine = ckpt && ckpt->step == step;
    crnn_checkpoint_free(ckpt);
    return fine;
}

/* Goes on from the state with the real program, to the same bits. */
static void go_on(proof *p)
{
    char why[200];
    bool same = trust_goes_on(&p->whole, p->state, p->last_said, why);
    tally_trial(&p->read_back, same, "after a crash: %s", why);
    p->resumed++;
}

static void visit(void *user)
{
    enum { ENOUGH = 300 }; /* findings, for a mutant */
    proof *p = user;
    int passed;
    if (p->unreadable + p->lost >= ENOUGH)
        return;
    int64_t found = trust_newest(scratch_path(p->state, "run"), &passed);
    bool kept = found >= p->last_said;
    for (int64_t step = 0; step < MOST_STEPS && kept; step++)
        kept = !p->said[step] || p->gone[step] || has_checkpoint(p->state, step);
    bool whole_history = found < 0 || history_steps(p->state) >= found;
    p->unreadable += passed > 0;
    p->lost += !kept;
    p->history_short += !whole_history;
    bool fine =
        tally_trial(&p->read_back, (passed == 0 && kept && whole_history) || p->how != SOUND,
                    "step %lld was reported as saved; found is %lld, passed over %d files, %lld steps of history",
                    (long long)p->last_said, (long long)found, passed, (long long)history_steps(p->state));
    if (fine && p->how == SOUND && p->read_back.trials % p->every == 0)
        go_on(p);
}

/* --- a trace ---------------------------------------------------------------------------------------------------------------- */

static void note_removal(proof *p, const trust_record *record, const char *payload)
{
    long long step;
    char path[400];
    snprintf(path, sizeof path, "%.*s", (int)record->size, payload);
    const char *name = strrchr(path, '/');
    if (record->kind == RECORD_UNLINK && name && sscanf(name, "/ckpt-%lld.safetensors", &step) == 1 &&
        step < MOST_STEPS)
        p->gone[step] = true;
}

/* The record as a worse program would have made it: false where that makes no such call. payload may be exchanged, for one that lives on. */
static bool mutate(mutation how, const trust_record *record, const char **payload, trust_record *out)
{
    static char kept[4096][200];
    static int used;
    *out = *record;
    if (how == NO_FILE_SYNC && record->kind == RECORD_SYNC && !record->directory)
        return false;
    if (how == NO_DIRECTORY_SYNC && record->kind == RECORD_SYNC && record->directory)
        return false;
    char *temporary = how == IN_PLACE ? memmem(*payload, record->size, "/.tmp-", 6) : NULL;
    char *name = temporary ? memmem(temporary, record->size - (size_t)(temporary - *payload), "ckpt-", 5) : NULL;
    if (!name || (record->kind != RECORD_OPEN && record->kind != RECORD_RENAME))
        return true;
    if (record->kind == RECORD_RENAME)
        return false;
    size_t size = (size_t)(*payload + record->size - name);
    char *path = kept[used++ % 4096];
    out->size = (uint32_t)snprintf(path, 200, "%.*s/%.*s", (int)(temporary - *payload), *payload, (int)size, name);
    *payload = path;
    return true;
}

/* Runs through what a trial did and said. */
static void follow(proof *p, crash_disk *disk, const trial *t, int effort)
{
    for (size_t i = 0; i < t->log_size;) {
        trust_record record, changed;
        if (t->log[i] != RECORD_MARK[0]) {
            size_t length = strcspn(t->log + i, "\n") + 1;
            char line[400];
            snprintf(line, sizeof line, "%.*s", (int)(length < 399 ? length : 399), t->log + i);
            int64_t step = trial_saved(line);
            i += strlen(line);
            if (step < 0)
                continue;
            p->said[step] = true;
            p->last_said = step > p->last_said ? step : p->last_said;
            crash_forget(disk);
        } else {
            memcpy(&record, t->log + i, sizeof record);
            const char *payload = t->log + i + sizeof record;
            i += sizeof record + record.size;
            note_removal(p, &record, payload);
            if (!mutate(p->how, &record, &payload, &changed))
                continue;
            crash_apply(disk, &changed, payload);
        }
        crash_states(disk, p->state, effort, visit, p);
    }
}

/* The run from its first call on, killed at call `kill` where that is not 0 and then continued, with a crash of the machine at every moment. */
static void prove(proof *p, long kill, int effort)
{
    trial first = {.root = scratch_path(dir, "disk")}, second = first;
    char plan[40], root[300];
    snprintf(root, sizeof root, "%s", scratch_path(dir, "disk"));
    snprintf(plan, sizeof plan, "kill:%ld", kill);
    assert_int_equal(scratch_shell(dir, "rm -rf disk && mkdir disk"), 0);
    crash_disk *disk = crash_new(root);
    first.root = second.root = root;
    first.plan = kill ? plan : NULL;
    trial_do(&first, dir, "train", "a.txt", TRUST_TINY, "--max-steps", "9", "--out", "disk/run");
    if (kill ? first.status != 128 + 9 : first.status != 0)
        fail_msg("status %d: %s", first.status, first.words);
    memset(p->said, 0, sizeof p->said);
    memset(p->gone, 0, sizeof p->gone);
    p->last_said = -1;
    follow(p, disk, &first, effort);
    trial_do(&second, dir, "train", "--resume", "disk/run", "--max-steps", "15");
    if (second.status == 0)
        follow(p, disk, &second, effort);
    else
        assert_true(kill && p->last_said < 0); /* there was nothing to continue yet */
    crash_free(disk);
    trial_free(&first);
    trial_free(&second);
}

static void set_up(proof *p, mutation how, const char *promise)
{
    static char state[300];
    snprintf(state, sizeof state, "%s", scratch_path(dir, "state"));
    *p = (proof){.how = how, .state = state, .read_back = {.promise = promise}, .every = trust_pick(100, 40)};
    if (!trial_can_record(dir))
        skip();
    trust_make_whole(&p->whole, dir, 15);
}

/* --- tests ------------------------------------------------------------------------------------------------------------------ */

static void what_was_reported_as_saved_survives_every_crash(void **state)
{
    (void)state;
    proof p;
    set_up(&p, SOUND, "A checkpoint reported as saved survives a crash of the machine");
    prove(&p, 0, (int)trust_pick(3, 40));
    assert_true(p.said[15] && p.gone[3]);
    assert_true(p.resumed > 0);
    tally_end(&p.read_back);
}

static void so_it_does_after_a_kill_and_a_continuation(void **state)
{
    (void)state;
    proof p;
    set_up(&p, SOUND, "So it does where the run was killed and continued before");
    for (long kill = trust_pick(60, 1); kill < 1000; kill += trust_pick(1000, 4)) {
        char plan[40];
        trial t = {.plan = plan};
        snprintf(plan, sizeof plan, "kill:%ld", kill);
        assert_int_equal(scratch_shell(dir, "rm -rf disk && mkdir disk"), 0);
        trial_do(&t, dir, "train", "a.txt", TRUST_TINY, "--max-steps", "9", "--out", "disk/run");
        trial_free(&t);
        if (t.status == 0)
            break;
        prove(&p, kill, 0);
    }
    tally_end(&p.read_back);
}

static void check_mutant(mutation how, const char *name)
{
    proof p;
    set_up(&p, how, name);
    prove(&p, 0, 0);
    tally_note(name,
               "caught: of %ld states %ld with an unreadable newest file, %ld with a lost checkpoint, %ld with a short "
               "history",
               p.read_back.trials, p.unreadable, p.lost, p.history_short);
    if (how == NO_DIRECTORY_SYNC)
        assert_true(p.lost > 0);
    else
        assert_true(p.unreadable > 0);
}

static void a_mutant_without_fsync_of_files_is_caught(void **state)
{
    (void)state;
    check_mutant(NO_FILE_SYNC, "Mutant: no fsync of files");
}

static void a_mutant_without_fsync_of_directories_is_caught(void **state)
{
    (void)state;
    check_mutant(NO_DIRECTORY_SYNC, "Mutant: no fsync of directories");
}

static void a_mutant_that_writes_in_place_is_caught(void **state)
{
    (void)state;
    check_mutant(IN_PLACE, "Mutant: written in place");
}

/* Records of one kind in a log. */
static int count_records(const trial *t, record_kind kind)
{
    int count = 0;
    for (size_t i = 0; i + sizeof(trust_record) <= t->log_size;) {
        trust_record record;
        if (t->log[i] != RECORD_MARK[0]) {
            i++;
            continue;
        }
        memcpy(&record, t->log + i, sizeof record);
        count += record.kind == (uint32_t)kind;
        i += sizeof record + record.size;
    }
    return count;
}

/* The kernel's own account of the same run, by strace. */
static void the_recorder_misses_nothing(void **state)
{
    (void)state;
    static const struct {
        record_kind kind;
        const char *calls;
    } kinds[] = {
        {RECORD_WRITE, "write|pwrite64|writev|pwritev"},
        {RECORD_SYNC, "fsync|fdatasync|sync_file_range|syncfs"},
        {RECORD_RENAME, "rename|renameat|renameat2"},
        {RECORD_UNLINK, "unlink|unlinkat|rmdir"},
        {RECORD_MKDIR, "mkdir|mkdirat"},
        {RECORD_INJECTED, "truncate|ftruncate|link|linkat|symlink|symlinkat|fallocate|sendfile|copy_file_range"}};
    trial t = {.root = scratch_path(dir, "traced")};
    assert_int_equal(scratch_shell(dir, "mkdir -p traced"), 0);
    if (!trial_can_record(dir) || scratch_shell(dir, "strace -o /dev/null true 2>/dev/null") != 0)
        skip();
    const char *const traced[] = {"train", scratch_path(dir, "a.txt"),      TRUST_TINY, "--max-steps", "9",
                                  "--out", scratch_path(dir, "traced/run"), NULL};
    t.under = "strace -f -y -s 0 -o traced.txt";
    trial_start(&t, dir, traced);
    trial_wait(&t);
    if (t.status != 0)
        fail_msg("status %d: %s", t.status, t.words);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        /* Calls that succeeded, or whose end stands in a line of its own since another thread's came between. */
        int seen =
            scratch_shell(dir, "exit $(grep -E '^[0-9]+ +(%s)\\(.*%s.*( = [0-9]+|unfinished)' traced.txt | wc -l)",
                          kinds[i].calls, scratch_path(dir, "traced"));
        assert_true(seen > 0 || kinds[i].kind == RECORD_INJECTED);
        assert_int_equal(count_records(&t, kinds[i].kind) % 256, seen);
    }
    trial_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_recorder_misses_nothing),
        cmocka_unit_test(what_was_reported_as_saved_survives_every_crash),
        cmocka_unit_test(so_it_does_after_a_kill_and_a_continuation),
        cmocka_unit_test(a_mutant_without_fsync_of_files_is_caught),
        cmocka_unit_test(a_mutant_without_fsync_of_directories_is_caught),
        cmocka_unit_test(a_mutant_that_writes_in_place_is_caught),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
