#include <crnn/error.h>
#include <stdarg.h>
#include <stdio.h>

crnn_status crnn_fail(crnn_error *err, crnn_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->status = status;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return status;
}
