FROM compat-base
COPY --chown=app:web dir /d/
