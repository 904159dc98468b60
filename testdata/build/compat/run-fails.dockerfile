FROM compat-base
RUN exit 3
