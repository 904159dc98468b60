FROM compat-base AS s
RUN mkdir /o && echo x > /o/f && chown 5:6 /o/f
FROM compat-base
COPY --from=s --chown=app /o /o
