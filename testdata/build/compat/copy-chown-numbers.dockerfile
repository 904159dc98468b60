FROM compat-base
COPY --chown=12:34 dir /d
