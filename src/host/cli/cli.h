/* cli.h - what the commands share: each is one function from its arguments to an exit status. */
#ifndef CRNN_CLI_CLI_H
#define CRNN_CLI_CLI_H

#include "host/cli/options.h"
#include <crnn/crnn.h>

int cmd_train(int argc, char **argv);
int cmd_sample(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_corpus(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* Says what failed on standard error, and returns the exit status for it. */
int cli_fail(const char *command, const crnn_error *err);
/* The same where memory ran out in the command itself. */
int cli_no_memory(const char *command);
double cli_seconds(void); /* of a steady clock */
/* Notes go to standard error. user: not used. */
void cli_note(void *user, const char *sentence);
/* Reads --device, --precision, --threads, --rnn-algo; says on standard error which device `auto` took. Returns -1, or an exit status. */
int cli_device(const opt_set *set, crnn_device_config *config);
/* Says on standard error in which way the recurrent layers are computed and why, where the device has several. recorded: by the run. */
void cli_say_rnn_choice(const crnn_rnn_choice *choice, bool recorded);
/* The table of what was tried, for a person and as JSON. */
void cli_print_rnn_choice(const crnn_rnn_choice *choice);
json_t *cli_rnn_choice_json(const crnn_rnn_choice *choice);
/* Reads --encoding, --invalid. */
crnn_text_options cli_text_options(const opt_set *set);
/* Prints object on standard output, and frees it. */
void cli_print_json(json_t *object);
/* Writes text for a person: on a terminal control characters in caret form, unless raw. */
void cli_put_text(FILE *out, const uint32_t *codes, size_t count, bool raw);
bool cli_is_terminal(FILE *file);
/* A word of the command line, or a path, as messages show it: escaped, cut. Returns out. */
enum { CLI_WORD = 64, CLI_PATH = 600 };
const char *cli_word(char out[CLI_WORD], const char *word);
const char *cli_path(char out[CLI_PATH], const char *path);
/* A line with a command to copy: this program as it was called, the words, the path quoted for a shell where it must be. */
void cli_put_command(FILE *out, const char *words, const char *path);

/* Rows that several commands have. */
#define CLI_HELP_MORE "                             " /* before a further line of a row's help */
#define CLI_DEVICE_ROWS                                                                                                \
    {"device", OPT_CHOICE, "auto", "auto|cuda|cpu", 0, 0, "where to compute", "Device"},                               \
        {"precision", OPT_CHOICE, "fp32", "fp32|tf32|bf16", 0, 0, "arithmetic of the matrix products", NULL},          \
        {"threads", OPT_INT, "0", "N", 0, 4096, "threads of the CPU; 0: all cores", NULL},                             \
    {                                                                                                                  \
        "rnn-algo", OPT_TEXT, "auto", "NAME", 0, 0,                                                                    \
            "how a recurrent layer is computed: auto; on a GPU also cudnn, its\n" CLI_HELP_MORE                        \
            "cudnn-persist-static, cudnn-persist-dynamic, cudnn-persist-small;\n" CLI_HELP_MORE                        \
            "loop (our own, step by step), persist (our persistent kernels),\n" CLI_HELP_MORE                          \
            "persist-cluster (the same by blocks in clusters, from Hopper on),\n" CLI_HELP_MORE                        \
            "persist-words (the same without flags between blocks)",                                                   \
            NULL                                                                                                       \
    }
#define CLI_ENCODING_ROW                                                                                               \
    {                                                                                                                  \
        "encoding", OPT_TEXT, "utf-8", "NAME", 0, 0, "encoding of the texts", NULL                                     \
    }
#define CLI_TEXT_ROWS                                                                                                  \
    CLI_ENCODING_ROW,                                                                                                  \
    {                                                                                                                  \
        "invalid", OPT_CHOICE, "error", "error|replace", 0, 0, "bytes that are no text", NULL                          \
    }

#endif
