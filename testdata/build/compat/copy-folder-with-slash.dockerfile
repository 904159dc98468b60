FROM compat-base
COPY dir/ /d/
