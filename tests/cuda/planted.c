/* planted.c - which of the planted mistakes is on. */
#include <stdlib.h>

extern int crnn_planted;
int crnn_planted;

__attribute__((constructor)) static void read_number(void)
{
    const char *number = getenv("CRNN_PLANTED");
    crnn_planted = number ? atoi(number) : 0;
}
