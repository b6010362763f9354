/* A library that has nothing. */
typedef int nothing;
