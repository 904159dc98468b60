FROM compat-base AS s
RUN echo s > /s
FROM compat-base
RUN --mount=from=s,target=/m cat /m/s > /copy
