FROM compat-base
ARG V=dflt
RUN echo $V > /v
