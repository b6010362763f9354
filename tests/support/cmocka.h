/* cmocka.h - CMocka with the headers it wants included before it. */
#ifndef CRNN_TESTS_CMOCKA_H
#define CRNN_TESTS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
