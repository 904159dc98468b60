FROM compat-base
RUN echo x > /f
FROM compat-base
COPY --from=0 /f /g
