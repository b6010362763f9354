/* json.h - JSON from outside: how deep it is and how many values it holds is settled before the parser allocates for any of them. */
#ifndef CRNN_BASE_JSON_H
#define CRNN_BASE_JSON_H

#include <crnn/error.h>
#include <jansson.h>
#include <stddef.h>

/* The object that text (size bytes) holds, without duplicate keys, brackets at most `depth` deep, at most `values` values. NULL with err
 * (CRNN_ERR_FORMAT, or CRNN_ERR_MEMORY) otherwise; what: it is, for the sentence, as in "x.json: its header". json_decref it. */
json_t *crnn_json_read(const char *text, size_t size, int depth, size_t values, const char *what, crnn_error *err);

#endif
