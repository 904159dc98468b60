# build: --build-arg V=given
FROM compat-base
ARG V=dflt
RUN echo $V > /v
