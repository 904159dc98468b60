FROM compat-base AS s
RUN mkdir /o && echo x > /o/f && chown 5:6 /o /o/f && ln -s f /o/l
FROM compat-base
COPY --from=s /o /o
