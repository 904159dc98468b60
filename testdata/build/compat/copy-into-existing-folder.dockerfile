FROM compat-base
RUN mkdir -m 700 /d
COPY a.txt /d
