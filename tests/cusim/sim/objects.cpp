// objects.cpp - what a program holds by a handle, so that a handle that is none is found, and one that is never given back.
#include "internal.h"

namespace cusim
{
static std::map<const void *, const char *> &objects = *new std::map<const void *, const char *>;

void object_made(const void *p, const char *what)
{
    objects[p] = what;
}
bool object_lives(const void *p, const char *what)
{
    auto it = objects.find(p);
    return it != objects.end() && !strcmp(it->second, what);
}
void object_gone(const void *p, const char *what)
{
    if (!object_lives(p, what))
        fail("%p: no such %s, or destroyed before", p, what);
    objects.erase(p);
}
} // namespace cusim
extern "C" size_t cusim_objects(void)
{
    return cusim::objects.size();
}
