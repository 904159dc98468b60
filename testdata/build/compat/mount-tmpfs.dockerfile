FROM compat-base
RUN --mount=type=tmpfs,target=/c echo x > /c/x
