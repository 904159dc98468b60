FROM compat-base
RUN --mount=type=bind,source=dir,target=/m cat /m/one > /copy
