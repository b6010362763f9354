/* crnn-gpu: the table of commands. */
#include "host/cli/cli.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *purpose;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"train", "train a model on texts, or go on with a run", cmd_train},
    {"sample", "write text with a trained model", cmd_sample},
    {"eval", "score texts under a trained model", cmd_eval},
    {"corpus", "look at texts as training will see them", cmd_corpus},
    {"doctor", "look for what is wrong with texts before training", cmd_doctor},
    {"info", "what a run or a checkpoint holds", cmd_info},
    {"verify", "check a run's files, or train a part of it again", cmd_verify},
    {"devices", "what can compute here, and why something cannot", cmd_devices},
    {"bench", "time the training step of any shape", cmd_bench},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("crnn-gpu %s: train character-level GRU language models and write text with them\n\n"
           "Usage: crnn-gpu COMMAND [OPTION]... [FILE]...\n\nCommands:\n",
           crnn_version());
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].purpose);
    printf("\nExamples:\n"
           "  crnn-gpu train book.txt               train on a book, into runs/book-1\n"
           "  crnn-gpu sample runs/book-1           write like it\n"
           "  crnn-gpu train --resume runs/book-1   go on after an interruption\n"
           "\ncrnn-gpu COMMAND --help tells more of each; --version prints the version.\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage, 3 bad data or model file,\n"
           "4 device not usable, 5 diverged, 130 or 143 stopped by a signal after saving.\n");
}

/* Jansson drops what it has no memory for: an option from an object, a character from a string that grows; the latter may end in
 * a failed assertion (load.c, lex_scan_string, up to 2.14). So the program ends here, before anything wrong is written or believed. */
static void *json_memory(size_t size)
{
    static const char sentence[] = "crnn-gpu: out of memory\n";
    void *memory = malloc(size);
    if (memory)
        return memory;
    if (write(STDERR_FILENO, sentence, sizeof sentence - 1) < 0) /* there is nobody else to tell */
        _exit(EXIT_FAILED);
    _exit(EXIT_FAILED);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* What was printed but could not be written, on a full disk say, must not end as if all were well. A reader that had enough is none of our
 * concern. */
static int check_output(int status)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    bool failed = ferror(stdout) != 0;
    errno = 0;
    failed = fflush(stdout) != 0 || failed;
    int number = errno;
    if (!failed || (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)))
        return status;
    fprintf(stderr, "crnn-gpu: not all could be written to standard output%s%s\n", number ? ": " : "",
            number ? strerror(number) : "");
    return status == EXIT_DONE ? EXIT_FAILED : status;
}

int main(int argc, char **argv)
{
    const char *names[COMMANDS];
    json_set_alloc_funcs(json_memory, free);
    signal(SIGXFSZ, SIG_IGN); /* a file too large is then an error of write, which is told */
    if (argc < 2 || (argc == 2 && is_help(argv[1]))) {
        print_help();
        return check_output(argc < 2 ? EXIT_USAGE : EXIT_DONE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("crnn-gpu %s\n", crnn_version());
        return check_output(EXIT_DONE);
    }
    char *help[] = {argv[0], argc > 2 ? argv[2] : argv[1], "--help"};
    if (is_help(argv[1])) { /* help COMMAND */
        argc = 3;
        argv = help;
    }
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[1], commands[i].name) == 0)
            return check_output(commands[i].run(argc - 2, argv + 2));
    }
    const char *near = opt_nearest(argv[1], names, COMMANDS);
    char word[CLI_WORD];
    fprintf(stderr, "crnn-gpu: there is no command '%s'%s%s%s; see crnn-gpu --help\n", cli_word(word, argv[1]),
            near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
    return EXIT_USAGE;
}
