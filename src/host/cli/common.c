/* What the commands share. */
#include "host/cli/cli.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_fail(const char *command, const crnn_error *err)
{
    fprintf(stderr, "crnn-gpu %s: %s\n", command, err->text);
    switch (err->status) {
    case CRNN_ERR_ARGUMENT:
        return EXIT_USAGE;
    case CRNN_ERR_FORMAT:
        return EXIT_DATA;
    case CRNN_ERR_DEVICE:
        return EXIT_DEVICE;
    case CRNN_ERR_DIVERGED:
        return EXIT_DIVERGED;
    default:
        return EXIT_FAILED;
    }
}

int cli_no_memory(const char *command)
{
    fprintf(stderr, "crnn-gpu %s: out of memory\n", command);
    return EXIT_FAILED;
}

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_note(void *user, const char *sentence)
{
    (void)user;
    fprintf(stderr, "note: %s\n", sentence);
}

bool cli_is_terminal(FILE *file)
{
    return isatty(fileno(file)) == 1;
}

int cli_device(const opt_set *set, crnn_device_config *config)
{
    static const char *const precisions[] = {"fp32", "tf32", "bf16"};
    const char *device = opt_text(set, "device");
    *config = crnn_device_config_default();
    config->kind = strcmp(device, "cpu") == 0    ? CRNN_DEVICE_CPU
                   : strcmp(device, "cuda") == 0 ? CRNN_DEVICE_CUDA
                                                 : CRNN_DEVICE_AUTO;
    for (int i = 0; i < 3; i++)
        if (strcmp(opt_text(set, "precision"), precisions[i]) == 0)
            config->precision = (crnn_precision)i;
    config->threads = (int32_t)opt_int(set, "threads");
    config->rnn_algo = opt_text(set, "rnn-algo");
    crnn_device_info info;
    crnn_error err = {0};
    char note[400];
    if (crnn_device_choose(&info, config, note, sizeof note, &err) != CRNN_OK)
        return cli_fail(set->command, &err);
    if (note[0])
        cli_note(NULL, note);
    config->kind = info.kind;
    return -1;
}

crnn_text_options cli_text_options(const opt_set *set)
{
    crnn_text_options options = crnn_text_options_default();
    options.encoding = opt_text(set, "encoding");
    options.invalid = strcmp(opt_text(set, "invalid"), "replace") == 0 ? CRNN_INVALID_REPLACE : CRNN_INVALID_ERROR;
    options.note = cli_note;
    return options;
}

void cli_print_json(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(object);
}

const char *cli_word(char out[CLI_WORD], const char *word)
{
    return crnn_escape(out, CLI_WORD, word, strlen(word), false);
}

const char *cli_path(char out[CLI_PATH], const char *path)
{
    return crnn_escape(out, CLI_PATH, path, strlen(path), false);
}

static void put_quoted(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+,:@%-";
    char shown[CLI_PATH];
    cli_path(shown, text);
    if (*text && strspn(text, plain) == strlen(text)) {
        fputs(shown, out);
        return;
    }
    fputc('\'', out);
    for (const char *at = shown; *at; at++)
        fputs(*at == '\'' ? "'\\''" : (char[]){*at, 0}, out);
    fputc('\'', out);
}

void cli_put_command(FILE *out, const char *words, const char *path)
{
    fputs("  ", out);
    put_quoted(out, program_invocation_name);
    fprintf(out, " %s ", words);
    put_quoted(out, path);
    fputc('\n', out);
}

/* Bytes that show a code on a terminal, in room for 16. */
static size_t shown(char bytes[16], uint32_t code)
{
    if (code == '\n' || code == '\t' || !crnn_is_control(code))
        return (size_t)crnn_utf8_encode(bytes, code);
    if (code < 32 || code == 127)
        return (size_t)snprintf(bytes, 16, "^%c", (int)(code ^ 64));
    return (size_t)snprintf(bytes, 16, "<U+%04X>", (unsigned)code);
}

void cli_put_text(FILE *out, const uint32_t *codes, size_t count, bool raw)
{
    char bytes[4096]; /* a call of stdio for each character takes longer than a GPU does to write it */
    size_t used = 0;
    bool plain = raw || !cli_is_terminal(out);
    for (size_t i = 0; i < count; i++) {
        if (used > sizeof bytes - 16) {
            fwrite(bytes, 1, used, out);
            used = 0;
        }
        if (codes[i] >= 32 && codes[i] < 127)
            bytes[used++] = (char)codes[i];
        else
            used += plain ? (size_t)crnn_utf8_encode(bytes + used, codes[i]) : shown(bytes + used, codes[i]);
    }
    fwrite(bytes, 1, used, out);
}
