#include "host/data/frames.h"
#include <string.h>

/* The first that a line holds counts. Whoever is named in running prose is not here: only what no author writes. */
static const crnn_frame frames[] = {
    {"start of the project gutenberg", "Project Gutenberg", CRNN_FRAME_BEGIN},
    {"start of this project gutenberg", "Project Gutenberg", CRNN_FRAME_BEGIN},
    {"*end*the small print!", "Project Gutenberg", CRNN_FRAME_BEGIN},
    {"end of the project gutenberg", "Project Gutenberg", CRNN_FRAME_END},
    {"end of this project gutenberg", "Project Gutenberg", CRNN_FRAME_END},
    {"end of project gutenberg", "Project Gutenberg", CRNN_FRAME_END},
    {"the project gutenberg ebook of", "Project Gutenberg", CRNN_FRAME_NAME},
    {"project gutenberg literary archive", "Project Gutenberg", CRNN_FRAME_NAME},
    {"project gutenberg license", "Project Gutenberg", CRNN_FRAME_NAME},
    {"gutenberg.org", "Project Gutenberg", CRNN_FRAME_NAME},
    {"gutenberg.net", "Project Gutenberg", CRNN_FRAME_NAME},
    {"pgdp.net", "Distributed Proofreaders", CRNN_FRAME_NAME},
    {"distributed proofread", "Distributed Proofreaders", CRNN_FRAME_NAME},
    {"fadedpage.com", "Faded Page", CRNN_FRAME_NAME},
    {"standardebooks.org", "Standard Ebooks", CRNN_FRAME_NAME},
    {"digitized by the internet archive", "the Internet Archive", CRNN_FRAME_NAME},
    {"archive.org/details/", "the Internet Archive", CRNN_FRAME_NAME},
    {"digitized by google", "Google Books", CRNN_FRAME_NAME},
    {"this is a digital copy of a book that was preserved", "Google Books", CRNN_FRAME_NAME},
    {"books.google.com", "Google Books", CRNN_FRAME_NAME},
    {"gallica.bnf.fr", "Gallica", CRNN_FRAME_NAME},
    {"wikisource.org", "Wikisource", CRNN_FRAME_NAME},
    {"feedbooks.com", "Feedbooks", CRNN_FRAME_NAME},
    {"manybooks.net", "ManyBooks", CRNN_FRAME_NAME},
    {"cervantesvirtual.com", "the Biblioteca Virtual Miguel de Cervantes", CRNN_FRAME_NAME},
    {"elejandria.com",
     "Elejandr\xc3\xad"
     "a",
     CRNN_FRAME_NAME},
    {"creativecommons.org/licenses/", "Creative Commons", CRNN_FRAME_NAME},
};

enum { SHORTEST = 8 }; /* of the marks */

const crnn_frame *crnn_frame_of(const char *line)
{
    if (strlen(line) < SHORTEST)
        return NULL;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
        if (strstr(line, frames[i].mark))
            return &frames[i];
    return NULL;
}
