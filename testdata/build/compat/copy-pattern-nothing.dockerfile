FROM compat-base
COPY nothing* /p/
