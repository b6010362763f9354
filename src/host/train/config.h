/* config.h - config.json of a run, read back. */
#ifndef CRNN_TRAIN_CONFIG_H
#define CRNN_TRAIN_CONFIG_H

#include <crnn/train.h>
#include <jansson.h>

/* Reads directory/config.json and checks that everything is there that crnn_rundir_write_config puts in. NULL with err: CRNN_ERR_IO where it cannot be
 * read, CRNN_ERR_FORMAT for what is wrong with it. json_decref it. */
json_t *crnn_config_read(const char *directory, crnn_error *err);
/* A whole number at object.key, where crnn_config_read has seen to it that it is there. */
int64_t crnn_config_whole(const json_t *config, const char *object, const char *key);
/* Steps of an epoch, by the options and the text that the run's config.json names. */
crnn_status crnn_config_steps(const json_t *config, int64_t *steps_per_epoch, crnn_error *err);

#endif
