FROM compat-base
COPY --from=compat-base /etc/passwd /p
