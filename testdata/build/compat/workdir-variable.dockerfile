FROM compat-base
ENV D=/v
WORKDIR $D/w
RUN pwd > here
