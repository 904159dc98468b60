#include "count.h"
#include <stdio.h>

int main(void)
{
    struct counts counts = {0, 0};
    int byte;

    while ((byte = getchar()) != EOF)
        count(&counts, byte);
    printf("%lu lines, %lu words\n", counts.lines, counts.words);
    return ferror(stdin) != 0;
}
