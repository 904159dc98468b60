struct counts {
    unsigned long lines;
    unsigned long words;
};

void count(struct counts *counts, int byte);
