FROM compat-base
COPY --chown=1000 a.txt /d/
