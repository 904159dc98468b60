FROM compat-base
COPY ignored/x /i/
