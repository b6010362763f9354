/* signals.h - Ctrl-C, SIGTERM and SIGUSR1 while a run trains, as wishes that the trainer asks for between two steps. */
#ifndef CRNN_CLI_SIGNALS_H
#define CRNN_CLI_SIGNALS_H

#include <stdbool.h>

/* From now on the first SIGINT or SIGTERM asks for a stop, the second ends the program at once, SIGUSR1 asks for a save; SIGPIPE is ignored. To be
 * called before any thread is made. False, and told, where it cannot be. */
bool cli_signals_catch(const char *command);
/* Whether someone asks, and something would be lost otherwise; while it is not so, the first signal ends the program too. */
void cli_signals_heeded(bool yes);
/* The stop hook of a run: 0, 1 for a stop, 2 for a save. user: not used. */
int cli_signals_ask(void *user);
/* The status of a program that the signal ended, SIGINT where there was none. */
int cli_signals_status(void);

#endif
