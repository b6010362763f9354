/* crnn-gpu bench: the whole training step of any shape, by op, beside what the device could do. */
#include "host/cli/cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const opt_row rows[] = {
    {"vocab", OPT_INT, "83", "N", 1, 65535, "distinct characters", "Model"},
    {"embedding", OPT_INT, "256", "N", 1, 1 << 24, "numbers a character is described by", NULL},
    {"units", OPT_INT, "1024", "N", 1, 1 << 24, "units of each recurrent layer", NULL},
    {"layers", OPT_INT, "1", "N", 1, 64, "recurrent layers", NULL},
    {"dropout", OPT_REAL, "0", "P", 0, 0.99, "share of units dropped between layers", NULL},
    {"batch", OPT_INT, "64", "N", 1, 1 << 24, "rows of a batch", NULL},
    {"length", OPT_INT, "100", "N", 1, 1 << 24, "characters of a row in a step", NULL},
    {"steps", OPT_INT, "10", "N", 1, 1000000, "timings, each of as many steps as a run makes at once", "Measurement"},
    {"sample-length", OPT_INT, "500", "N", 0, 1e9, "characters written for the sampling rate; 0: none", NULL},
    {"texts", OPT_INT, "1", "N", 1, 65536, "measure also N texts that are written at once", NULL},
    {"measure-again", OPT_FLAG, NULL, "", 0, 0, "auto on a GPU: measure the ways to compute a layer anew", NULL},
    {"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"},
    CLI_DEVICE_ROWS,
};
enum { MAX_OPS = 16, EPOCH_STEPS = 206 };

typedef struct {
    const opt_set *set;
    crnn_device_config device;
    crnn_model_config config;
    crnn_model *model;
    int64_t *starts;                /* [most,B], with most of crnn_model_most_steps() */
    crnn_update *updates;           /* [most] */
    crnn_step_result *results;      /* [most] */
    int64_t made;                   /* steps so far */
    int32_t at_once;                /* steps that a run makes at once */
    double step_seconds, spread[2]; /* median; least and most */
    double eval_seconds;            /* forward and loss alone; median */
    double peak, copy, flop, sample_rate, texts_rate;
    int64_t peak_bytes;
    crnn_op_time ops[MAX_OPS];
    int op_count;
} job;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static crnn_status make_steps(job *j, int64_t n, crnn_error *err)
{
    int64_t done;
    for (int64_t k = 0; k < n; k++) {
        j->updates[k] = crnn_update_default();
        j->updates[k].count = j->updates[k].step = ++j->made;
    }
    return crnn_model_train_several(j->model, j->starts, j->updates, n, j->results, &done, err);
}

/* As a run makes them. */
static crnn_status timed_steps(job *j, const uint16_t *ids, crnn_error *err)
{
    (void)ids;
    return make_steps(j, j->at_once, err);
}

static crnn_status one_evaluation(job *j, const uint16_t *ids, crnn_error *err)
{
    crnn_step_result result;
    return crnn_model_eval_ids(j->model, ids, ids + j->config.B, &result, NULL, err);
}

/* [T+1,B] ids, the same each time. */
static uint16_t *random_ids(const job *j, crnn_error *err)
{
    size_t count = (size_t)(j->config.T + 1) * (size_t)j->config.B;
    uint16_t *ids = malloc(count * sizeof *ids);
    uint32_t random = 1;
    if (!ids)
        crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a batch");
    for (size_t i = 0; ids && i < count; i++) {
        random = random * 1664525U + 1013904223U;
        ids[i] = (uint16_t)((random >> 8) % (uint32_t)j->config.sizes.V);
    }
    return ids;
}

/* The same rows of the text in each step. */
static crnn_status make_queue(job *j, const uint16_t *ids, crnn_error *err)
{
    int64_t most = crnn_model_most_steps(j->model), B = j->config.B, T = j->config.T;
    j->starts = malloc((size_t)most * (size_t)B * sizeof *j->starts);
    j->updates = malloc((size_t)most * sizeof *j->updates);
    j->results = malloc((size_t)most * sizeof *j->results);
    if (!j->starts || !j->updates || !j->results)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for %lld steps", (long long)most);
    for (int64_t i = 0; i < most * B; i++)
        j->starts[i] = i % B * (T + 1);
    return crnn_model_set_text(j->model, (crnn_ids){ids, (T + 1) * B, sizeof *ids}, err);
}

/* Until libraries are loaded and what is recorded is, and it shows how many steps a run makes at once. */
static crnn_status warm_up(job *j, crnn_error *err)
{
    crnn_status status = CRNN_OK;
    for (int calls = 0; status == CRNN_OK && (calls < 3 || crnn_model_steps_at_once(j->model) > j->at_once); calls++) {
        j->at_once = crnn_model_steps_at_once(j->model);
        status = make_steps(j, j->at_once, err);
    }
    return status;
}

/* Sorts what each of count calls of work took into seconds [count], divided by the steps in it. */
static crnn_status time_each(job *j, double *seconds, int64_t count, int32_t steps,
                             crnn_status (*work)(job *, const uint16_t *, crnn_error *), const uint16_t *ids,
                             crnn_error *err)
{
    crnn_status status = CRNN_OK;
    for (int64_t i = 0; status == CRNN_OK && i < count; i++) {
        double begin = cli_seconds();
        status = work(j, ids, err);
        seconds[i] = (cli_seconds() - begin) / steps;
    }
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    return status;
}

static double median(const double *sorted, int64_t count)
{
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* Memory of the model on a GPU; on the CPU that of the process, before the matrices of the peak product and the sampler's copy count in. */
static int64_t peak_memory(const job *j)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return crnn_model_device(j->model)->kind == CRNN_DEVICE_CUDA ? crnn_model_memory(j->model)
                                                                 : (int64_t)usage.ru_maxrss * 1024;
}

/* First the ops, one by one on the clock of the device; then whole steps as a run takes them; then evaluation. */
static crnn_status time_steps(job *j, crnn_error *err)
{
    int64_t steps = opt_int(j->set, "steps");
    uint16_t *ids = random_ids(j, err);
    double *seconds = calloc((size_t)steps, sizeof *seconds);
    crnn_status status = ids && seconds ? CRNN_OK : crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for a batch");
    if (status == CRNN_OK)
        status = make_queue(j, ids, err);
    if (status == CRNN_OK)
        status = warm_up(j, err);
    crnn_model_time_ops(j->model, true);
    for (int64_t i = 0; status == CRNN_OK && i < (steps + 1) / 2; i++)
        status = make_steps(j, 1, err);
    j->op_count = crnn_model_op_times(j->model, j->ops, MAX_OPS);
    crnn_model_time_ops(j->model, false);
    if (status == CRNN_OK)
        status = time_each(j, seconds, steps, j->at_once, timed_steps, ids, err);
    if (status == CRNN_OK) {
        j->step_seconds = median(seconds, steps);
        j->spread[0] = seconds[0];
        j->spread[1] = seconds[steps - 1];
        for (int i = 0; i < j->op_count; i++)
            j->flop += j->ops[i].flop * (double)(j->ops[i].calls / ((steps + 1) / 2));
        j->peak_bytes = peak_memory(j);
        status = one_evaluation(j, ids, err); /* warm up */
    }
    if (status == CRNN_OK)
        status = time_each(j, seconds, steps, 1, one_evaluation, ids, err);
    if (status == CRNN_OK)
        j->eval_seconds = median(seconds, steps);
    free(ids);
    free(seconds);
    return status;
}

/* Characters a second of `texts` texts together: at least so many of each as were asked for, and for at least a tenth of a second. Groups grow as
 * those of `sample` do. */
static crnn_status time_writing(const job *j, double *rate, int32_t texts, const float *weights, crnn_error *err)
{
    enum { LEAST = 64, MOST = 4096, ALL = 1 << 20 };
    const double least_seconds = 0.1;
    int64_t length = opt_int(j->set, "sample-length"), done = 0;
    const int64_t most = texts > ALL / MOST ? ALL / texts > LEAST ? ALL / texts : LEAST : MOST;
    crnn_sample_options options = crnn_sample_options_default();
    uint16_t id = 0, *ids = malloc((size_t)texts * (size_t)most * sizeof *ids);
    if (!ids)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for %d texts", texts);
    crnn_sampler *sampler = crnn_sampler_new(&j->config.sizes, weights, texts, &options, &j->device, err);
    crnn_status status = sampler ? crnn_sampler_prime(sampler, &id, 1, err) : err->status;
    for (int64_t i = 0; status == CRNN_OK && i < length / 5; i += LEAST) /* warm up */
        status = crnn_sampler_write(sampler, ids, LEAST, err);
    double begin = cli_seconds(), seconds = 0;
    for (int64_t group = LEAST; status == CRNN_OK && (done < length || seconds < least_seconds);) {
        status = crnn_sampler_write(sampler, ids, group, err);
        done += group;
        seconds = cli_seconds() - begin;
        group = seconds < least_seconds / 2 && group * 2 <= most ? group * 2 : group;
    }
    *rate = (double)done * texts / seconds;
    crnn_sampler_free(sampler);
    free(ids);
    return status;
}

static crnn_status time_sampling(job *j, crnn_error *err)
{
    int32_t texts = (int32_t)opt_int(j->set, "texts");
    if (!opt_int(j->set, "sample-length"))
        return CRNN_OK;
    float *weights = malloc((size_t)crnn_model_parameters(&j->config.sizes) * sizeof *weights);
    if (!weights)
        return crnn_fail(err, CRNN_ERR_MEMORY, "out of memory for the weights");
    crnn_status status = crnn_model_get(j->model, CRNN_WEIGHTS, weights, err);
    if (status == CRNN_OK)
        status = time_writing(j, &j->sample_rate, 1, weights, err);
    if (status == CRNN_OK && texts > 1)
        status = time_writing(j, &j->texts_rate, texts, weights, err);
    free(weights);
    return status;
}

/* Seconds that one call of an op takes at the least, were it bound by arithmetic or by memory alone. */
static double floor_seconds(const job *j, const crnn_op_time *op)
{
    return fmax(j->peak > 0 ? op->flop / j->peak : 0, j->copy > 0 ? op->bytes / j->copy : 0);
}

static void print_ops(const job *j)
{
    double total = 0, least = 0, steps = (double)((opt_int(j->set, "steps") + 1) / 2);
    for (int i = 0; i < j->op_count; i++)
        total += j->ops[i].seconds;
    printf("op                     ms a step   share   GFLOP/s      GB/s  at best ms   reached\n");
    for (int i = 0; i < j->op_count; i++) {
        const crnn_op_time *op = &j->ops[i];
        double seconds = op->seconds / (double)op->calls, best = floor_seconds(j, op);
        least += best * (double)op->calls / steps;
        printf("%-20s %11.3f %6.1f%% ", op->name, 1e3 * op->seconds / steps, 100 * op->seconds / total);
        op->flop > 0 ? printf("%9.1f", op->flop / seconds / 1e9) : printf("%9s", "");
        printf(" %9.1f %11.3f %8.0f%%\n", op->bytes / seconds / 1e9, 1e3 * best * (double)op->calls / steps,
               100 * best / seconds);
    }
    printf("%-20s %11.3f %7s %9s %9s %11.3f %8.0f%%\n", "all", 1e3 * total / steps, "", "", "", 1e3 * least,
           100 * least * steps / total);
    printf("\nAt best: bound by arithmetic, %.1f GFLOP/s of one large product, or by memory, %.1f GB/s of one large "
           "copy;\n"
           "what stays in a cache is faster than that.\n",
           j->peak / 1e9, j->copy / 1e9);
}

static void print_table(const job *j)
{
    const crnn_model_sizes *s = &j->config.sizes;
    double characters = (double)j->config.B * j->config.T;
    printf("V %d, E %d, H %d, L %d, B %d, T %d on %s (%s)\n\n", (int)s->V, (int)s->E, (int)s->H, (int)s->L,
           (int)j->config.B, (int)j->config.T, crnn_model_device(j->model)->name,
           crnn_model_device(j->model)->versions);
    print_ops(j);
    printf("\nwhole step             %.2f ms (median; %.2f to %.2f; %d at once)\n", 1e3 * j->step_seconds,
           1e3 * j->spread[0], 1e3 * j->spread[1], (int)j->at_once);
    printf("steps a second         %.2f\ncharacters a second    %.0f\nepoch of %d steps     %.2f s\n",
           1 / j->step_seconds, characters / j->step_seconds, EPOCH_STEPS, EPOCH_STEPS * j->step_seconds);
    printf("evaluation of a batch  %.2f ms\n", 1e3 * j->eval_seconds);
    if (j->peak > 0)
        printf("arithmetic             %.1f GFLOP/s of %.1f that one large product reaches: %.0f %%\n",
               j->flop / j->step_seconds / 1e9, j->peak / 1e9, 100 * j->flop / j->step_seconds / j->peak);
    if (j->sample_rate > 0)
        printf("writing one text       %.0f characters a second\n", j->sample_rate);
    if (j->texts_rate > 0)
        printf("writing %-6d texts   %.0f characters a second\n", (int)opt_int(j->set, "texts"), j->texts_rate);
    printf("peak memory            %.1f MiB\n", (double)j->peak_bytes / 0x1p20);
    cli_print_rnn_choice(crnn_model_rnn_choice(j->model));
}

static void print_json(const job *j)
{
    const crnn_model_sizes *s = &j->config.sizes;
    const crnn_device_info *d = crnn_model_device(j->model);
    json_t *ops = json_array();
    for (int i = 0; i < j->op_count; i++)
        json_array_append_new(ops, json_pack("{s:s, s:f, s:f, s:f, s:f, s:I}", "name", j->ops[i].name, "seconds",
                                             j->ops[i].seconds / (double)j->ops[i].calls, "flop", j->ops[i].flop,
                                             "bytes", j->ops[i].bytes, "floor_seconds", floor_seconds(j, &j->ops[i]),
                                             "calls", (json_int_t)j->ops[i].calls));
    json_t *shape = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "vocab", s->V, "embedding", s->E, "units", s->H,
                              "layers", s->L, "batch", j->config.B, "length", j->config.T);
    json_t *device = json_pack("{s:s, s:s, s:i, s:s}", "kind", d->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu", "name",
                               d->name, "threads", d->threads, "precision", opt_text(j->set, "precision"));
    json_t *json = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o, s:o, s:{s:s, s:s}, s:o}",
                             "step_seconds", j->step_seconds, "step_seconds_min", j->spread[0], "step_seconds_max",
                             j->spread[1], "chars_per_second", (double)j->config.B * j->config.T / j->step_seconds,
                             "epoch_seconds", EPOCH_STEPS * j->step_seconds, "flop_rate", j->flop / j->step_seconds,
                             "peak_flop_rate", j->peak, "sample_chars_per_second", j->sample_rate, "peak_memory_bytes",
                             (json_int_t)j->peak_bytes, "shape", shape, "device", device, "versions", "crnn-gpu",
                             crnn_version(), "libraries", d->versions, "ops", ops);
    json_object_set_new(json, "copy_rate", json_real(j->copy));
    json_object_set_new(json, "eval_seconds", json_real(j->eval_seconds));
    json_object_set_new(json, "steps_at_once", json_integer(j->at_once));
    json_object_set_new(json, "rnn", cli_rnn_choice_json(crnn_model_rnn_choice(j->model)));
    if (j->texts_rate > 0) {
        json_object_set_new(json, "texts", json_integer(opt_int(j->set, "texts")));
        json_object_set_new(json, "texts_chars_per_second", json_real(j->texts_rate));
    }
    cli_print_json(json);
}

static int bench(job *j)
{
    crnn_error err = {0};
    const opt_set *s = j->set;
    int status = cli_device(s, &j->device);
    if (status >= 0)
        return status;
    j->device.measure_again = opt_flag(s, "measure-again");
    j->config = (crnn_model_config){.sizes = {(int32_t)opt_int(s, "vocab"), (int32_t)opt_int(s, "embedding"),
                                              (int32_t)opt_int(s, "units"), (int32_t)opt_int(s, "layers"),
                                              opt_real(s, "dropout")},
                                    .B = (int32_t)opt_int(s, "batch"),
                                    .T = (int32_t)opt_int(s, "length"),
                                    .training = true,
                                    .seed = 1};
    j->model = crnn_model_new(&j->config, &j->device, &err);
    if (j->model && crnn_model_rnn_choice(j->model)->note[0])
        cli_note(NULL, crnn_model_rnn_choice(j->model)->note);
    if (!j->model || time_steps(j, &err) != CRNN_OK)
        return cli_fail("bench", &err);
    if (time_sampling(j, &err) != CRNN_OK)
        return cli_fail("bench", &err);
    if (crnn_model_rates(j->model, &j->peak, &j->copy, &err) != CRNN_OK) { /* the rest is still worth telling */
        char sentence[sizeof err.text + 64];
        snprintf(sentence, sizeof sentence, "what the device could do at best is not known: %s", err.text);
        cli_note(NULL, sentence);
    }
    (opt_flag(s, "json") ? print_json : print_table)(j);
    return EXIT_DONE;
}

int cmd_bench(int argc, char **argv)
{
    opt_set set = {.command = "bench",
                   .purpose = "Times the whole training step of any shape, by op, beside what the device could do.",
                   .usage = "bench [OPTION]...",
                   .examples = "  crnn-gpu bench\n  crnn-gpu bench --units 512 --batch 32 --json\n",
                   .rows = rows,
                   .row_count = sizeof rows / sizeof *rows};
    job j = {.set = &set};
    int status = opt_parse(&set, argc, argv);
    if (status < 0)
        status = bench(&j);
    crnn_model_free(j.model);
    free(j.starts);
    free(j.updates);
    free(j.results);
    opt_free(&set);
    return status;
}
