/* ways.c - in which way the recurrent layers are computed, as people and programs are told. */
#include "host/cli/cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const reasons[] = {[CRNN_RNN_ONLY] = "only",
                                      [CRNN_RNN_ASKED_FOR] = "asked for",
                                      [CRNN_RNN_BY_RULE] = "by rule",
                                      [CRNN_RNN_MEASURED] = "measured",
                                      [CRNN_RNN_REMEMBERED] = "remembered"};

static double seconds_of(const crnn_rnn_candidate *c)
{
    return c->forward_seconds + c->backward_seconds;
}

static const crnn_rnn_candidate *chosen(const crnn_rnn_choice *choice)
{
    for (int32_t i = 0; i < choice->count; i++)
        if (strcmp(choice->candidates[i].name, choice->name) == 0 && !choice->candidates[i].why[0])
            return &choice->candidates[i];
    return NULL;
}

void cli_say_rnn_choice(const crnn_rnn_choice *choice, bool recorded)
{
    const crnn_rnn_candidate *c = chosen(choice);
    if (choice->note[0])
        cli_note(NULL, choice->note);
    if (c)
        fprintf(stderr, "recurrent layers by %s, the fastest way %s: %.3f ms a step, cudnn %.3f\n", c->name,
                choice->reason == CRNN_RNN_MEASURED ? "as measured now" : "as measured earlier", 1e3 * seconds_of(c),
                1e3 * seconds_of(&choice->candidates[0]));
    else if (choice->reason == CRNN_RNN_ASKED_FOR)
        fprintf(stderr, "recurrent layers by %s, %s\n", choice->name, recorded ? "as the run has it" : "as asked for");
}

void cli_print_rnn_choice(const crnn_rnn_choice *choice)
{
    if (choice->reason == CRNN_RNN_ONLY)
        return;
    printf("\nrecurrent layers by %s, %s\n", choice->name, reasons[choice->reason]);
    if (choice->count)
        printf("way                     forward ms  backward ms  difference\n");
    for (int32_t i = 0; i < choice->count; i++) {
        const crnn_rnn_candidate *c = &choice->candidates[i];
        if (c->why[0])
            printf("%-22s  no: %s\n", c->name, c->why);
        else
            printf("%-22s %11.3f %12.3f %11.1e%s\n", c->name, 1e3 * c->forward_seconds, 1e3 * c->backward_seconds,
                   c->difference, strcmp(c->name, choice->name) == 0 ? "  chosen" : "");
    }
}

json_t *cli_rnn_choice_json(const crnn_rnn_choice *choice)
{
    json_t *candidates = json_array();
    for (int32_t i = 0; i < choice->count; i++) {
        const crnn_rnn_candidate *c = &choice->candidates[i];
        json_t *difference = isfinite(c->difference) ? json_real(c->difference) : json_null(); /* which JSON has not */
        json_array_append_new(candidates, json_pack("{s:s, s:s, s:f, s:f, s:o}", "name", c->name, "why_not", c->why,
                                                    "forward_seconds", c->forward_seconds, "backward_seconds",
                                                    c->backward_seconds, "difference", difference));
    }
    return json_pack("{s:s, s:s, s:o}", "algo", choice->name, "reason", reasons[choice->reason], "candidates",
                     candidates);
}
