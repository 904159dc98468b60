FROM compat-base
COPY di* /p/
