/* Which device is chosen, and what is said where it cannot be. */
#include "support/cmocka.h"

#include "kernels/backend.h"
#include <string.h>

static void refuses(const crnn_device_config *config, crnn_status status, const char *word)
{
    crnn_error err = {0};
    assert_null(crnn_backend_open(config, NULL, 0, &err));
    assert_int_equal(err.status, status);
    assert_non_null(strstr(err.text, word));
}

static void what_the_cpu_cannot_do_is_refused_with_a_sentence(void **state)
{
    (void)state;
    crnn_device_config config = crnn_device_config_default();
    config.kind = CRNN_DEVICE_CPU;
    config.precision = CRNN_TF32;
    refuses(&config, CRNN_ERR_ARGUMENT, "tf32");
    config.precision = CRNN_FP32;
    config.threads = -1;
    refuses(&config, CRNN_ERR_ARGUMENT, "threads");
    config.threads = 0;
    config.rnn_algo = "magic";
    refuses(&config, CRNN_ERR_ARGUMENT, "auto");
}

static void every_device_is_listed_whether_usable_or_not(void **state)
{
    (void)state;
    crnn_device_info info[4];
    int n = crnn_device_list(info, 4);
    assert_in_range(n, 1, 4);
    bool cpu = false;
    for (int i = 0; i < n; i++) {
        assert_true(info[i].usable || strlen(info[i].why) > 0);
        cpu = cpu ||
              (info[i].kind == CRNN_DEVICE_CPU && info[i].usable && info[i].threads >= 1 && info[i].memory_free > 0);
    }
    assert_true(cpu);
    assert_int_equal(crnn_device_list(NULL, 0), n);
}

static void the_choice_left_to_us_is_explained(void **state)
{
    (void)state;
    crnn_device_config config = crnn_device_config_default();
    crnn_device_info info;
    char note[256] = "x";
    assert_int_equal(crnn_device_choose(&info, &config, note, sizeof note, NULL), CRNN_OK);
    assert_true(info.usable);
    assert_true(strlen(note) > 0);
    config.kind = CRNN_DEVICE_CPU;
    config.threads = 1;
    assert_int_equal(crnn_device_choose(&info, &config, note, sizeof note, NULL), CRNN_OK);
    assert_int_equal(info.threads, 1);
    assert_string_equal(note, "");
}

static void an_open_backend_says_what_it_is(void **state)
{
    (void)state;
    crnn_device_config config = crnn_device_config_default();
    config.kind = CRNN_DEVICE_CPU;
    config.threads = 1;
    config.rnn_algo = NULL; /* as good as "auto" */
    crnn_backend *be = crnn_backend_open(&config, NULL, 0, NULL);
    assert_non_null(be);
    assert_string_equal(be->ops->name, "cpu");
    crnn_device_info info;
    be->ops->info(be, &info);
    assert_int_equal(info.threads, 1);
    assert_non_null(strstr(info.versions, "oneDNN"));
    assert_true(be->ops->peak_rate(be) > 1e8);
    assert_int_equal(be->ops->memory(be), 0);
    be->ops->close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_cpu_cannot_do_is_refused_with_a_sentence),
        cmocka_unit_test(every_device_is_listed_whether_usable_or_not),
        cmocka_unit_test(the_choice_left_to_us_is_explained),
        cmocka_unit_test(an_open_backend_says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
