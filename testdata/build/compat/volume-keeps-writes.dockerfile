FROM compat-base
VOLUME /data
RUN mkdir -p /data && echo x > /data/x
