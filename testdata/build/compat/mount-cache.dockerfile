FROM compat-base
RUN --mount=type=cache,target=/c echo x > /c/x && ls /c > /list
