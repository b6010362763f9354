/* The table of canonical tensors: the notebook's figures, the names that docs/MODEL.md promises, and no byte beyond what was given. */
#include "support/cmocka.h"

#include <crnn/model.h>
#include <stdlib.h>
#include <string.h>

static const crnn_model_sizes notebook = {83, 256, 1024, 1, 0};
enum { MAX = 32 };

/* Parameters of the tensors whose names begin with the layer's. */
static int64_t part(const crnn_model_sizes *sizes, const char *layer)
{
    crnn_tensor_info tensors[MAX];
    int count = crnn_model_tensors(tensors, MAX, sizes);
    int64_t sum = 0;
    for (int k = 0; k < count; k++)
        if (strncmp(tensors[k].name, layer, strlen(layer)) == 0)
            sum += tensors[k].count;
    return sum;
}

static void the_notebooks_model_has_its_parameters_in_three_parts(void **state)
{
    (void)state;
    assert_int_equal(part(&notebook, "embedding/"), 21248);
    assert_int_equal(part(&notebook, "gru/"), 3938304);
    assert_int_equal(part(&notebook, "dense/"), 85075);
    assert_int_equal(crnn_model_parameters(&notebook), 4044627);
}

static void names_shapes_and_offsets_are_those_of_the_document(void **state)
{
    (void)state;
    enum { V = 7, E = 3, H = 5, G = 3 * H };
    static const struct {
        const char *name;
        int64_t rows, columns; /* rows 0: one dimension */
    } wanted[] = {
        {"embedding/embeddings", V, E},
        {"gru/kernel", E, G},
        {"gru/recurrent_kernel", H, G},
        {"gru/bias", 2, G},
        {"gru_1/kernel", H, G},
        {"gru_1/recurrent_kernel", H, G},
        {"gru_1/bias", 2, G},
        {"gru_2/kernel", H, G},
        {"gru_2/recurrent_kernel", H, G},
        {"gru_2/bias", 2, G},
        {"dense/kernel", H, V},
        {"dense/bias", 0, V},
    };
    const crnn_model_sizes sizes = {V, E, H, 3, 0};
    crnn_tensor_info tensors[MAX];
    int count = crnn_model_tensors(tensors, MAX, &sizes);
    int64_t offset = 0;
    assert_int_equal(count, sizeof wanted / sizeof *wanted);
    for (int k = 0; k < count; k++) {
        const crnn_tensor_info *t = &tensors[k];
        assert_string_equal(t->name, wanted[k].name);
        assert_int_equal(t->rank, wanted[k].rows ? 2 : 1);
        assert_int_equal(t->shape[0], wanted[k].rows ? wanted[k].rows : wanted[k].columns);
        if (t->rank == 2)
            assert_int_equal(t->shape[1], wanted[k].columns);
        assert_int_equal(t->count, (wanted[k].rows ? wanted[k].rows : 1) * wanted[k].columns);
        assert_int_equal(t->offset, offset);
        offset += t->count;
    }
    assert_int_equal(offset, crnn_model_parameters(&sizes));
}

static void a_table_with_too_little_room_is_counted_whole_and_cut(void **state)
{
    (void)state;
    crnn_tensor_info tensors[3] = {{.name = ""}, {.name = ""}, {.name = "untouched"}};
    assert_int_equal(crnn_model_tensors(tensors, 2, &notebook), 6);
    assert_string_equal(tensors[1].name, "gru/kernel");
    assert_string_equal(tensors[2].name, "untouched");
    assert_int_equal(crnn_model_tensors(NULL, 0, &notebook), 6);
}

/* Sizes at the limits of a checkpoint: the sum passes 2^31 and must not wrap. */
static void the_largest_sizes_are_counted_in_64_bits(void **state)
{
    (void)state;
    const crnn_model_sizes largest = {65535, 1 << 24, 1 << 24, 64, 0};
    crnn_tensor_info tensors[256];
    int count = crnn_model_tensors(tensors, 256, &largest);
    assert_int_equal(count, 2 + 3 * 64 + 1);
    const crnn_tensor_info *last = &tensors[count - 1];
    assert_true(last->offset + last->count == crnn_model_parameters(&largest));
    assert_true(last->offset > (int64_t)1 << 53);
    assert_string_equal(tensors[count - 3].name, "gru_63/bias");
}

/* The notebook prints this of its model, with one row for each layer. */
static void the_summary_is_the_table_of_keras(void **state)
{
    (void)state;
    static const char wanted[] = "Model: \"sequential\"\n"
                                 "_________________________________________________________________\n"
                                 " Layer (type)                Output Shape              Param #\n"
                                 "=================================================================\n"
                                 " embedding (Embedding)       (64, None, 256)           21248\n"
                                 " gru (GRU)                   (64, None, 1024)          3938304\n"
                                 " dense (Dense)               (64, None, 83)            85075\n"
                                 "=================================================================\n"
                                 "Total params: 4,044,627\n"
                                 "Trainable params: 4,044,627\n"
                                 "Non-trainable params: 0\n"
                                 "_________________________________________________________________\n";
    char text[2048];
    assert_int_equal(crnn_model_summary(text, sizeof text, &notebook, 64), sizeof wanted - 1);
    assert_string_equal(text, wanted);
}

static void a_summary_never_writes_past_its_room(void **state)
{
    (void)state;
    size_t whole = crnn_model_summary(NULL, 0, &notebook, 64);
    char full[2048];
    crnn_model_summary(full, sizeof full, &notebook, 64);
    for (size_t room = 1; room <= whole + 1; room++) {
        char *text = malloc(room); /* of its own, so that AddressSanitizer sees the byte after it */
        assert_non_null(text);
        assert_int_equal(crnn_model_summary(text, room, &notebook, 64), whole);
        assert_int_equal(strlen(text), room - 1);
        assert_memory_equal(text, full, room - 1);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_notebooks_model_has_its_parameters_in_three_parts),
        cmocka_unit_test(names_shapes_and_offsets_are_those_of_the_document),
        cmocka_unit_test(a_table_with_too_little_room_is_counted_whole_and_cut),
        cmocka_unit_test(the_largest_sizes_are_counted_in_64_bits),
        cmocka_unit_test(the_summary_is_the_table_of_keras),
        cmocka_unit_test(a_summary_never_writes_past_its_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
