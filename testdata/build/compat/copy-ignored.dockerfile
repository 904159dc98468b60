FROM compat-base
COPY ignored /i/
