FROM compat-base
COPY --chown=app a.txt /d/
