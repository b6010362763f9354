#include "host/cli/progress.h"
#include "host/cli/cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

void cli_duration(char out[32], double seconds)
{
    if (seconds >= 0 && seconds < 9.95) {
        snprintf(out, 32, "%.1f s", seconds);
        return;
    }
    long whole = isfinite(seconds) && seconds >= 0 && seconds < 1e9 ? lround(seconds) : 0;
    if (whole >= 3600)
        snprintf(out, 32, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, 32, "%ld:%02ld", whole / 60, whole % 60);
}

void cli_progress_begin(cli_progress *progress)
{
    bool terminal = cli_is_terminal(stderr);
    *progress = (cli_progress){.terminal = terminal, .last = terminal ? 0 : cli_seconds()}; /* a bar is there at once */
}

/* Columns of the terminal that standard error is; 80 where it does not say. */
static int columns(void)
{
    struct winsize size;
    return ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* One line, redrawn in place: so it must not be longer than the terminal is wide. The figures come first, the bar takes what is left. */
static void draw_bar(const crnn_progress *at)
{
    enum { MOST = 24 };
    char bar[MOST + 4] = "", place[96], loss[32], speed[96], left[32];
    cli_duration(left, at->seconds_left);
    snprintf(place, sizeof place, "epoch %lld/%lld  step %lld/%lld  ", (long long)at->epoch, (long long)at->epochs,
             (long long)at->position, (long long)at->steps_per_epoch);
    snprintf(loss, sizeof loss, "loss %.4f", at->loss);
    snprintf(speed, sizeof speed, "  %.0f chars/s  %s left", at->chars_per_second, left);
    int room = columns() - 1 - (int)(strlen(place) + strlen(loss) + strlen(speed));
    int width = room - 3 < MOST ? room - 3 : MOST;
    double share = at->total_steps > 0 ? (double)at->step / (double)at->total_steps : 0;
    if (width >= 4) {
        bar[0] = '[';
        for (int i = 0; i < width; i++)
            bar[1 + i] = (double)i < share * width ? '#' : '.';
        memcpy(bar + 1 + width, "] ", 3);
    }
    if (room < 0) { /* a narrow one gets what matters most */
        room += (int)strlen(place);
        place[0] = 0;
    }
    if (room < 0)
        speed[0] = 0;
    const char *bold = getenv("NO_COLOR") ? "" : "\033[1m", *plain = getenv("NO_COLOR") ? "" : "\033[0m";
    fprintf(stderr, "\r%s%s%s%s%s%s\033[K", bar, place, bold, loss, plain, speed);
    fflush(stderr);
}

void cli_progress_step(cli_progress *progress, const crnn_progress *at)
{
    double now = cli_seconds();
    if (now - progress->last < (progress->terminal ? 0.1 : 5.0))
        return;
    progress->last = now;
    if (progress->terminal) {
        draw_bar(at);
        progress->drawn = true;
        return;
    }
    char left[32];
    cli_duration(left, at->seconds_left);
    fprintf(stderr, "epoch %lld/%lld, step %lld/%lld: loss %.4f, %.0f chars/s, %s left\n", (long long)at->epoch,
            (long long)at->epochs, (long long)at->position, (long long)at->steps_per_epoch, at->loss,
            at->chars_per_second, left);
}

void cli_progress_clear(cli_progress *progress)
{
    if (progress->drawn)
        fprintf(stderr, "\r\033[K");
    progress->drawn = false;
}

void cli_progress_epoch(cli_progress *progress, const crnn_epoch_report *report)
{
    char took[32], held_out[64] = "";
    cli_progress_clear(progress);
    cli_duration(took, report->seconds);
    if (!isnan(report->val_loss))
        snprintf(held_out, sizeof held_out, ", held out %.4f (%.3f bits)", report->val_loss, report->val_bpc);
    fprintf(stderr, "epoch %lld: loss %.4f (%.3f bits/char), accuracy %.1f %%%s, %s, %.0f chars/s\n",
            (long long)report->epoch, report->loss_mean, report->bpc, 100 * report->accuracy, held_out, took,
            report->chars_per_second);
}

void cli_progress_saved(const cli_progress *progress, int64_t step)
{
    if (!progress->terminal)
        fprintf(stderr, "saved step %lld\n", (long long)step);
}
