FROM compat-base AS s
FROM compat-base
COPY --from=s /nothing /p
