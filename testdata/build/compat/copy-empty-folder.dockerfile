FROM compat-base
COPY empty /e
