FROM compat-base
ARG V=arg
ENV V=env
RUN echo $V > /v
