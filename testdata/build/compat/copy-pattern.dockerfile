FROM compat-base
COPY *.txt /p/
