FROM compat-base
COPY a.txt b.txt /p
