FROM compat-base
COPY a.txt /new
