#include "count.h"
#include <ctype.h>

static int in_word;

void count(struct counts *counts, int byte)
{
    counts->lines += byte == '\n';
    if (isspace(byte)) {
        in_word = 0;
    } else if (!in_word) {
        in_word = 1;
        counts->words++;
    }
}
