/* timing.c - what each op of a step takes, for bench: marks on the device's own clock between ops, read when the step is over. */
#include "host/model/model.h"
#include <string.h>

_Static_assert(4 * CRNN_MAX_LAYERS + 3 <= CRNN_MARKS, "a step of any model has fewer ops than there are marks");

static const char *const op_names[OP_COUNT] = {
    "gather", "gru forward",  "dropout forward",  "logits",        "softmax and loss",
    "head",   "gru backward", "dropout backward", "gradient norm", "adam",
};

void crnn_model_begin_booking(crnn_model *model)
{
    if (!model->timing)
        return;
    model->marks = 0;
    model->be->ops->mark(model->be, 0);
}

void crnn_model_end_booking(crnn_model *model)
{
    for (int32_t i = 0; i < model->marks; i++)
        model->ops[model->marked[i]].seconds += model->be->ops->between(model->be, i, i + 1);
    model->marks = 0;
}

void crnn_model_book(crnn_model *model, crnn_op_row row, double flop, double floats)
{
    if (!model->timing || model->marks + 1 == CRNN_MARKS) /* of the next steps of the call, then */
        return;
    model->marked[model->marks++] = (uint8_t)row;
    model->be->ops->mark(model->be, model->marks);
    model->ops[row].flop += flop;
    model->ops[row].bytes += floats * sizeof(float);
    model->ops[row].calls++;
}

void crnn_model_time_ops(crnn_model *model, bool on)
{
    memset(model->ops, 0, sizeof model->ops);
    model->timing = on;
    model->marks = 0;
}

int crnn_model_op_times(const crnn_model *model, crnn_op_time *ops, int max)
{
    int count = 0;
    for (int row = 0; row < OP_COUNT; row++) {
        if (!model->ops[row].calls)
            continue;
        if (count < max) {
            ops[count] = model->ops[row];
            ops[count].flop /= (double)ops[count].calls;
            ops[count].bytes /= (double)ops[count].calls;
            memcpy(ops[count].name, op_names[row], strlen(op_names[row]) + 1);
        }
        count++;
    }
    return count;
}

crnn_status crnn_model_rates(crnn_model *model, double *peak, double *copy, crnn_error *err)
{
    crnn_backend *be = model->be;
    *peak = be->ops->peak_rate(be);
    *copy = be->ops->copy_rate(be);
    crnn_status status = be->ops->sync(be, err);
    if (status != CRNN_OK)
        *peak = *copy = 0;
    return status;
}
