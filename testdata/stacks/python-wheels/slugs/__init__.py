"""Titles as parts of addresses."""

import re
import sys

from text_unidecode import unidecode

SEPARATOR = "-"


def main():
    for title in sys.argv[1:]:
        print(re.sub(r"\W+", SEPARATOR, unidecode(title).lower()))
