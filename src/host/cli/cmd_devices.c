/* crnn-gpu devices: what can compute here. */
#include "host/cli/cli.h"
#include <stdio.h>

static const opt_row rows[] = {{"json", OPT_FLAG, NULL, "", 0, 0, "one JSON object on standard output", "Output"}};

static json_t *to_json(const crnn_device_info *d)
{
    return json_pack("{s:s, s:b, s:s, s:s, s:s, s:I, s:I}", "kind", d->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu",
                     "usable", d->usable, "name", d->name, "versions", d->versions, "why", d->why, "memory_total",
                     (json_int_t)d->memory_total, "memory_free", (json_int_t)d->memory_free);
}

static void list(bool json)
{
    crnn_device_info devices[16];
    int count = crnn_device_list(devices, 16);
    json_t *all = json_array();
    for (int i = 0; i < count && i < 16; i++) {
        const crnn_device_info *d = &devices[i];
        if (json)
            json_array_append_new(all, to_json(d));
        else if (d->usable)
            printf("%-5s usable      %s; %s; %.1f of %.1f GiB free\n", d->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu",
                   d->name, d->versions, (double)d->memory_free / 0x1p30, (double)d->memory_total / 0x1p30);
        else
            printf("%-5s not usable  %s: %s\n", d->kind == CRNN_DEVICE_CUDA ? "cuda" : "cpu", d->name, d->why);
    }
    if (json)
        cli_print_json(json_pack("{s:O}", "devices", all));
    json_decref(all);
}

int cmd_devices(int argc, char **argv)
{
    opt_set set = {.command = "devices",
                   .purpose = "Lists what can compute here, and why something cannot.",
                   .usage = "devices [--json]",
                   .rows = rows,
                   .row_count = sizeof rows / sizeof *rows};
    int status = opt_parse(&set, argc, argv);
    if (status < 0) {
        list(opt_flag(&set, "json"));
        status = EXIT_DONE;
    }
    opt_free(&set);
    return status;
}
