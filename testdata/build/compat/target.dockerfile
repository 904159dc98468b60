# build: --target one
FROM compat-base AS one
RUN echo 1 > /x
FROM compat-base AS two
RUN exit 1
