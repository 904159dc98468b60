#include "config.h"
#include <ctype.h>
#include <stdio.h>

#define BY 13

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s TEXT\n", PACKAGE_STRING);
        return 2;
    }
    for (const char *c = argv[1]; *c; c++)
        putchar(islower(*c) ? 'a' + (*c - 'a' + BY) % 26 : isupper(*c) ? 'A' + (*c - 'A' + BY) % 26 : *c);
    putchar('\n');
    return 0;
}
