/* The doctor: each finding on a text that has it, and none on one that has not. */
#include "support/cmocka.h"

#include "host/base/rng.h"
#include "support/scratch.h"
#include <crnn/doctor.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ADDRESS_SANITIZER 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#endif

/* --- texts -------------------------------------------------------------------------------------------------------------- */

enum { LINES = 60, PROSE = LINES * 100 };

/* LINES lines of Spanish words in an order that does not repeat itself; each character occurs CRNN_RARE times and more. */
static char *prose(char out[PROSE], uint64_t seed)
{
    static const char *const words[] = {"el",    "mar",   "de",    "noche",  "una",    "barca", "sin",
                                        "remos", "que",   "viaja", "hacia",  "puerto", "donde", "nadie",
                                        "llega", "nunca", "pero",  "todos",  "hablan", "del",   "faro",
                                        "y",     "su",    "luz",   "blanca", "sobre",  "rocas"};
    uint64_t counter = 0;
    size_t used = 0;
    for (int line = 0; line < LINES; line++) {
        for (int word = 0; word < 11; word++) {
            const char *next = words[crnn_uniform_below(seed, 1, &counter, sizeof words / sizeof *words)];
            used += (size_t)sprintf(out + used, word ? " %s" : "%s", next);
        }
        out[used++] = '\n';
    }
    out[used] = 0;
    return out;
}

/* The text with `piece` in the place of the first blank of line (from 1). */
static const char *with(const char *dir, const char *name, int line, const char *piece, size_t size)
{
    char text[PROSE], out[PROSE + 600];
    const char *at = prose(text, 1);
    for (int i = 1; i < line; i++)
        at = strchr(at, '\n') + 1;
    at = strchr(at, ' ');
    size_t before = (size_t)(at - text), after = strlen(at + 1);
    memcpy(out, text, before);
    memcpy(out + before, piece, size);
    memcpy(out + before + size, at + 1, after);
    return scratch_write(dir, name, out, before + size + after);
}
#define WITH(dir, line, piece) with(dir, "text.txt", line, piece, sizeof(piece) - 1)

/* --- looking ------------------------------------------------------------------------------------------------------------ */

static crnn_diagnosis *look_at(const char *const *paths, int count, const char *val)
{
    crnn_error err = {0};
    crnn_diagnosis *d = crnn_doctor_look(paths, count, &val, val ? 1 : 0, NULL, &err);
    if (!d)
        fail_msg("%s", err.text);
    return d;
}

static crnn_diagnosis *look(const char *path)
{
    return look_at(&path, 1, NULL);
}

/* The only finding but for those of `besides`. */
static const crnn_finding *only(const crnn_diagnosis *d, crnn_finding_kind kind, crnn_finding_kind besides)
{
    const crnn_finding *found = NULL;
    for (int i = 0; i < crnn_diagnosis_count(d); i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        if (f->kind == besides)
            continue;
        if (f->kind != kind || found)
            fail_msg("%s at %s:%lld: %s", crnn_finding_name(f->kind), f->places->shown, (long long)f->places->line,
                     f->what);
        found = f;
    }
    assert_non_null(found);
    return found;
}

static void assert_only(const char *path, crnn_finding_kind kind, int64_t line, int64_t count, const char *what)
{
    crnn_diagnosis *d = look(path);
    const crnn_finding *f = only(d, kind, CRNN_FINDING_RARE);
    assert_string_equal(f->places->path, path);
    assert_int_equal(f->places->line, line);
    assert_int_equal(f->count, count);
    if (!strstr(f->what, what))
        fail_msg("'%s' is missing in: %s", what, f->what);
    crnn_diagnosis_free(d);
}

static int begin(void **state)
{
    *state = scratch_new();
    return 0;
}

static int end(void **state)
{
    scratch_remove(*state);
    return 0;
}

static void nothing_is_found_in_a_sound_text(void **state)
{
    char text[PROSE];
    crnn_diagnosis *d = look(scratch_text(*state, "a", prose(text, 1)));
    if (crnn_diagnosis_count(d))
        fail_msg("%s", crnn_diagnosis_at(d, 0)->what);
    crnn_diagnosis_totals t = crnn_diagnosis_total(d);
    assert_int_equal(t.files, 1);
    assert_int_equal(t.lines, LINES);
    assert_int_equal(t.bytes, strlen(text));
    assert_int_equal(t.characters, strlen(text));
    assert_int_equal(t.val_characters + t.repeated_characters + t.overlap_characters, 0);
    crnn_diagnosis_free(d);
    crnn_diagnosis_free(NULL);
}

static void our_own_tales_raise_no_alarm(void **state)
{
    (void)state;
    crnn_diagnosis *d = look(CRNN_SOURCE_DIR "/data/cuentos.txt");
    for (int i = 0; i < crnn_diagnosis_count(d); i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        if (f->kind != CRNN_FINDING_RARE) /* in 20 KB, some letters are */
            fail_msg("%s, line %lld: %s", crnn_finding_name(f->kind), (long long)f->places->line, f->what);
        assert_true(f->count < CRNN_RARE);
    }
    crnn_diagnosis_free(d);
}

/* --- repeats ------------------------------------------------------------------------------------------------------------ */

static void seven_copies_of_a_file_are_found_at_once(void **state)
{
    char text[PROSE], all[7 * PROSE] = "";
    const char *path = scratch_text(*state, "a", prose(text, 1)), *seven[7];
    for (int i = 0; i < 7; i++) {
        seven[i] = path;
        strcat(all, text);
    }
    for (int way = 0; way < 2; way++) { /* named seven times, and in one file */
        const char *joined = scratch_text(*state, "b", all);
        crnn_diagnosis *d = way ? look(joined) : look_at(seven, 7, NULL);
        const crnn_finding *f = only(d, CRNN_FINDING_REPEATED, CRNN_FINDING_REPEATED + 100);
        assert_int_equal(f->count, 7);
        assert_int_equal(f->place_count, 7);
        assert_int_equal(f->places[0].line, 1);
        for (int i = 1; i < 7; i++)
            assert_int_equal(f->places[i].line, way ? 1 + i * LINES : 1);
        assert_true(f->characters >= (int64_t)strlen(text) - 2);
        assert_true(crnn_diagnosis_total(d).repeated_characters >= 6 * ((int64_t)strlen(text) - 2));
        crnn_diagnosis_free(d);
    }
}

static void a_paragraph_is_the_same_however_its_lines_are_wrapped(void **state)
{
    static const char piece[] = "\nHabía una vez un faro en la última roca del mundo, y en el faro una mujer que\n"
                                "contaba las olas para no olvidar los números, de uno hasta doce mil y vuelta a uno.\n";
    static const char again[] =
        "\r\n\r\n   Había una vez un faro en la última roca\r\ndel mundo, y en el faro una mujer que "
        "contaba las olas\r\npara no olvidar los números, de uno hasta doce mil y vuelta\ta uno.\r\n";
    const char *paths[] = {with(*state, "a", 5, piece, sizeof piece - 1),
                           scratch_text(*state, "b", strchr(again, 'H'))};
    crnn_diagnosis *d = look_at(paths, 2, NULL);
    for (int i = 0; i < crnn_diagnosis_count(d); i++) {
        const crnn_finding *f = crnn_diagnosis_at(d, i);
        if (f->kind != CRNN_FINDING_REPEATED)
            continue;
        assert_int_equal(f->count, 2);
        assert_int_equal(f->characters, 161);
        assert_int_equal(f->places[0].line, 6);
        assert_string_equal(f->places[1].path, paths[1]);
        assert_int_equal(f->places[1].line, 1);
        assert_non_null(strstr(f->what, "Había una vez un faro en la última roca"));
    }
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_REPEATED), 1);
    crnn_diagnosis_free(d);
}

static void rules_and_blank_lines_may_repeat(void **state)
{
    char text[PROSE + 2000];
    size_t used = strlen(prose(text, 1));
    for (int i = 0; i < 8; i++)
        used += (size_t)sprintf(
            text + used, "%.*s\n%.*s", 150,
            "* * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * * "
            "* * * * * * * * * * * * * * * * * * * * * * * * * * * *",
            40, "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
    crnn_diagnosis *d = look(scratch_write(*state, "a", text, used));
    assert_int_equal(crnn_diagnosis_count(d), 0);
    crnn_diagnosis_free(d);
}

static void held_out_text_that_is_trained_on_is_told(void **state)
{
    char text[PROSE], other[PROSE], both[2 * PROSE];
    const char *train = scratch_text(*state, "train", prose(text, 1)), *val;
    val = scratch_text(*state, "val", prose(other, 2));
    crnn_diagnosis *d = look_at(&train, 1, val);
    assert_int_equal(crnn_diagnosis_count(d), 0);
    assert_int_equal(crnn_diagnosis_total(d).val_characters, strlen(other));
    crnn_diagnosis_free(d);
    snprintf(both, sizeof both, "%s%.1000s", other, strchr(text + 700, '\n') + 1);
    val = scratch_text(*state, "val", both);
    d = look_at(&train, 1, val);
    const crnn_finding *f = only(d, CRNN_FINDING_OVERLAP, CRNN_FINDING_OVERLAP + 100);
    assert_string_equal(f->places[0].path, val);
    assert_int_equal(f->places[0].line, LINES + 1);
    assert_string_equal(f->places[1].path, train);
    assert_in_range(f->characters, 990, 1001);
    assert_int_equal(crnn_diagnosis_total(d).overlap_characters, f->characters);
    crnn_diagnosis_free(d);
}

static void a_part_that_occurs_more_often_is_counted_with_the_whole(void **state)
{
    char text[PROSE], part[2 * PROSE], other[PROSE];
    prose(text, 1);
    snprintf(part, sizeof part, "%s%.2000s", prose(other, 3), text);
    const char *paths[] = {scratch_text(*state, "a", text), scratch_text(*state, "b", text),
                           scratch_text(*state, "c", part)};
    crnn_diagnosis *d = look_at(paths, 3, NULL);
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_REPEATED), 2);
    assert_int_equal(crnn_diagnosis_at(d, 0)->count, 2);
    assert_int_equal(crnn_diagnosis_at(d, 1)->count, 3);
    assert_in_range(crnn_diagnosis_at(d, 1)->characters, 1990, 2000);
    crnn_diagnosis_free(d);
}

/* --- characters ----------------------------------------------------------------------------------------------------------- */

static void bytes_that_are_no_text_are_counted_and_passed_over(void **state)
{
    assert_only(WITH(*state, 7, "\xe9 \xff"), CRNN_FINDING_INVALID_BYTES, 7, 2, "byte 0xe9");
    const char *path = scratch_text(*state, "latin1",
                                    "ma\xf1"
                                    "ana \x81\n");
    crnn_text_options options = crnn_text_options_default();
    options.encoding = "latin1";
    crnn_diagnosis *d = crnn_doctor_look(&path, 1, NULL, 0, &options, NULL);
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_INVALID_BYTES), 0);
    crnn_diagnosis_free(d);
    options.encoding = "ascii";
    d = crnn_doctor_look(&path, 1, NULL, 0, &options, NULL);
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_INVALID_BYTES), 1);
    assert_int_equal(crnn_diagnosis_at(d, 0)->count, 2);
    crnn_diagnosis_free(d);
}

static void control_characters_and_invisible_ones_are_told(void **state)
{
    assert_only(WITH(*state, 3, "\x0c"), CRNN_FINDING_CONTROL, 3, 1, "U+000C");
    assert_only(WITH(*state, 60, " \x1b \x1b "), CRNN_FINDING_CONTROL, 60, 2, "U+001B");
    assert_only(WITH(*state, 2, "\xc2\x85"), CRNN_FINDING_CONTROL, 2, 1, "U+0085");
    assert_only(WITH(*state, 2, "\xe2\x80\xae"), CRNN_FINDING_CONTROL, 2, 1, "U+202E");
    assert_only(WITH(*state, 2, "\xef\xbb\xbf"), CRNN_FINDING_CONTROL, 2, 1, "U+FEFF");
    assert_only(WITH(*state, 9, "\0"), CRNN_FINDING_CONTROL, 9, 1, "U+0000");
    crnn_diagnosis *d = look(WITH(*state, 4, "\t"));
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_CONTROL), 0);
    crnn_diagnosis_free(d);
}

static void line_endings_of_two_kinds_in_a_file_are_told(void **state)
{
    assert_only(WITH(*state, 8, "\r\n"), CRNN_FINDING_LINE_ENDS, 8, 1, "1 line ends with \\r\\n");
    assert_only(WITH(*state, 8, "\r"), CRNN_FINDING_LINE_ENDS, 8, 1, "60 with \\n");
    assert_only(WITH(*state, 8, "\r\r"), CRNN_FINDING_LINE_ENDS, 8, 2, "2 lines end with \\r");
    assert_only(scratch_text(*state, "a", "a\nb\r\n"), CRNN_FINDING_LINE_ENDS, 1, 1, "1 with");
    assert_only(scratch_text(*state, "a", "a\nb\nc\r"), CRNN_FINDING_LINE_ENDS, 3, 1, "2 with \\n");
}

static void files_with_other_line_endings_than_most_are_told(void **state)
{
    const char *paths[] = {scratch_text(*state, "a", "a\r\nb\r\n"), scratch_text(*state, "b", "a\nb\n"),
                           scratch_text(*state, "c", "a\n"), scratch_text(*state, "d", "a")};
    crnn_diagnosis *d = look_at(paths, 4, NULL);
    const crnn_finding *f = only(d, CRNN_FINDING_LINE_ENDS, CRNN_FINDING_RARE);
    assert_string_equal(f->places->path, paths[0]);
    assert_non_null(strstr(f->what, "2 other files with \\n"));
    crnn_diagnosis_free(d);
    d = look_at(paths + 1, 3, NULL);
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_LINE_ENDS), 0);
    crnn_diagnosis_free(d);
}

static void accents_that_are_not_composed_are_told(void **state)
{
    assert_only(WITH(*state, 5, "e\xcc\x81 n\xcc\x83"), CRNN_FINDING_ACCENTS, 5, 2, "'e' and U+0301");
    assert_only(WITH(*state, 5, "e\xcc\x81\xc3\xa9"), CRNN_FINDING_ACCENTS, 5, 1, "; 1 elsewhere as one");
    assert_only(WITH(*state, 5, "\xe1\x84\x92\xe1\x85\xa1"), CRNN_FINDING_ACCENTS, 5, 1, "U+1161");  /* Hangul */
    assert_only(WITH(*state, 6, "\xe2\x84\xab"), CRNN_FINDING_ACCENTS, 6, 1, "U+00C5 is the usual"); /* Angstrom sign */
    static const char *const sound[] = {"\xc3\xa9", "x\xcc\x81" /* no such letter */, "\xed\x95\x9c",
                                        "\xe0\xa4\x95\xe0\xa5\x8d" /* Devanagari */};
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        crnn_diagnosis *d = look(with(*state, "text.txt", 5, sound[i], strlen(sound[i])));
        assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_ACCENTS), 0);
        crnn_diagnosis_free(d);
    }
}

static void characters_that_occur_fewer_than_ten_times_are_told(void **state)
{
    crnn_diagnosis *d = look(WITH(*state, 5, "XXXXXXXXX \xe2\x82\xac YYYYYYYYYY"));
    assert_int_equal(crnn_diagnosis_count(d), 2);
    const crnn_finding *f = crnn_diagnosis_at(d, 0);
    assert_int_equal(f->kind, CRNN_FINDING_RARE);
    assert_int_equal(f->count, 9);
    assert_int_equal(f->places->line, 5);
    assert_string_equal(f->what, "'X' (U+0058), 9 times");
    assert_string_equal(crnn_diagnosis_at(d, 1)->what, "'€' (U+20AC), 1 time");
    crnn_diagnosis_free(d);
}

static void held_out_characters_are_not_counted_as_rare(void **state)
{
    char text[PROSE];
    const char *train = scratch_text(*state, "a", prose(text, 1)), *val = scratch_text(*state, "b", "Z");
    crnn_diagnosis *d = look_at(&train, 1, val);
    assert_int_equal(crnn_diagnosis_count(d), 0);
    crnn_diagnosis_free(d);
}

/* --- frames --------------------------------------------------------------------------------------------------------------- */

static void licence_frames_of_e_books_are_told(void **state)
{
    char text[PROSE], book[2 * PROSE];
    snprintf(book, sizeof book,
             "The Project Gutenberg EBook of Pruebas\n\nwww.gutenberg.org\n"
             "*** START OF THIS PROJECT GUTENBERG EBOOK PRUEBAS ***\n%s"
             "*** END OF THIS PROJECT GUTENBERG EBOOK PRUEBAS ***\nUpdated editions: www.gutenberg.org",
             prose(text, 1));
    crnn_diagnosis *d = look(scratch_text(*state, "a", book));
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_LICENCE_FRAME), 2);
    assert_int_equal(crnn_diagnosis_at(d, 0)->kind, CRNN_FINDING_LICENCE_FRAME);
    assert_int_equal(crnn_diagnosis_at(d, 0)->places->line, 4);
    assert_non_null(strstr(crnn_diagnosis_at(d, 0)->what, "Project Gutenberg's frame before a text ends here"));
    assert_int_equal(crnn_diagnosis_at(d, 1)->places->line, 5 + LINES);
    crnn_diagnosis_free(d);
    assert_only(WITH(*state, 9, "\nDigitized by Google\n"), CRNN_FINDING_LICENCE_FRAME, 10, 1,
                "1 line of Google Books");
    assert_only(WITH(*state, 9, "\nhttps://standardebooks.org/\n\nhttps://standardebooks.org/licence\n"),
                CRNN_FINDING_LICENCE_FRAME, 10, 2, "2 lines of Standard Ebooks");
    crnn_diagnosis *none = look(WITH(*state, 9, "\nGutenberg imprimió una Biblia; el proyecto se llamaba como él.\n"));
    assert_int_equal(crnn_diagnosis_found(none, CRNN_FINDING_LICENCE_FRAME), 0);
    crnn_diagnosis_free(none);
}

/* --- the rest --------------------------------------------------------------------------------------------------------------- */

static void only_the_first_hundred_of_a_kind_are_kept_but_all_are_counted(void **state)
{
    char text[4096];
    size_t used = 0;
    for (uint32_t code = 0x4E00; code < 0x4E00 + 150; code++)
        used += (size_t)crnn_utf8_encode(text + used, code);
    crnn_diagnosis *d = look(scratch_write(*state, "a", text, used));
    assert_int_equal(crnn_diagnosis_count(d), CRNN_MAX_FINDINGS);
    assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_RARE), 150);
    crnn_diagnosis_free(d);
}

static void what_cannot_be_read_is_an_error(void **state)
{
    crnn_error err = {0};
    const char *path = scratch_path(*state, "absent");
    assert_null(crnn_doctor_look(&path, 1, NULL, 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_IO);
    path = scratch_text(*state, "empty", "");
    assert_null(crnn_doctor_look(&path, 1, NULL, 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_FORMAT);
    path = "/dev/zero";
    assert_null(crnn_doctor_look(&path, 1, NULL, 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_IO);
    assert_null(crnn_doctor_look(&path, 0, NULL, 0, NULL, &err));
    assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
    crnn_text_options options = crnn_text_options_default();
    options.encoding = "klingon";
    assert_null(crnn_doctor_look(&path, 1, NULL, 0, &options, &err));
    assert_int_equal(err.status, CRNN_ERR_ARGUMENT);
}

/* What is to be had is less than eight times the size; what is asked of it here is three. */
static void looking_takes_at_most_three_times_the_size_of_the_file(void **state)
{
#ifdef UNDER_ADDRESS_SANITIZER
    (void)state;
    skip(); /* its allocator keeps what is freed */
#else
    enum { SIZE = 12 << 20 };
    char *text = malloc(SIZE);
    uint64_t seed = 1;
    for (size_t i = 0; i < SIZE; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        text[i] = i % 61 == 60 ? '\n' : (char)('a' + (seed >> 59) % 26);
    }
    const char *path = scratch_write(*state, "t", text, SIZE);
    free(text);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {3 * SIZE + (8U << 20), 3 * SIZE + (8U << 20)};
        setrlimit(RLIMIT_DATA, &limit);
        crnn_diagnosis *d = crnn_doctor_look(&path, 1, NULL, 0, NULL, NULL);
        _exit(d && crnn_diagnosis_total(d).characters == SIZE && crnn_diagnosis_count(d) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
#endif
}

/* The books are as they came, so that their frames must be found; nothing else but rare characters is wrong with them. */
static void the_real_books_have_frames_and_little_else(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int frames, repeats;
        int64_t line; /* of the first of these */
    } books[] = {{"corpora/46000-0.txt", 1, 0, 3029},
                 {"corpora/55514-0.txt", 2, 0, 1},
                 {"corpora/61244-0.txt", 1, 0, 7673},
                 {"corpora/tinyshakespeare.txt", 0, 1, 23111}}; /* a speech that is quoted later */
    for (size_t i = 0; i < sizeof books / sizeof *books; i++) {
        const char *path = scratch_shared(books[i].name);
        if (!path)
            skip();
        crnn_diagnosis *d = look(path);
        assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_LICENCE_FRAME), books[i].frames);
        assert_int_equal(crnn_diagnosis_found(d, CRNN_FINDING_REPEATED), books[i].repeats);
        assert_int_equal(crnn_diagnosis_at(d, 0)->places->line, books[i].line);
        assert_int_equal(crnn_diagnosis_count(d),
                         books[i].frames + books[i].repeats + (int)crnn_diagnosis_found(d, CRNN_FINDING_RARE));
        crnn_diagnosis_free(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_in_a_sound_text),
        cmocka_unit_test(our_own_tales_raise_no_alarm),
        cmocka_unit_test(seven_copies_of_a_file_are_found_at_once),
        cmocka_unit_test(a_paragraph_is_the_same_however_its_lines_are_wrapped),
        cmocka_unit_test(rules_and_blank_lines_may_repeat),
        cmocka_unit_test(held_out_text_that_is_trained_on_is_told),
        cmocka_unit_test(a_part_that_occurs_more_often_is_counted_with_the_whole),
        cmocka_unit_test(bytes_that_are_no_text_are_counted_and_passed_over),
        cmocka_unit_test(control_characters_and_invisible_ones_are_told),
        cmocka_unit_test(line_endings_of_two_kinds_in_a_file_are_told),
        cmocka_unit_test(files_with_other_line_endings_than_most_are_told),
        cmocka_unit_test(accents_that_are_not_composed_are_told),
        cmocka_unit_test(characters_that_occur_fewer_than_ten_times_are_told),
        cmocka_unit_test(held_out_characters_are_not_counted_as_rare),
        cmocka_unit_test(licence_frames_of_e_books_are_told),
        cmocka_unit_test(only_the_first_hundred_of_a_kind_are_kept_but_all_are_counted),
        cmocka_unit_test(what_cannot_be_read_is_an_error),
        cmocka_unit_test(looking_takes_at_most_three_times_the_size_of_the_file),
        cmocka_unit_test(the_real_books_have_frames_and_little_else),
    };
    return cmocka_run_group_tests(tests, begin, end) != 0;
}
