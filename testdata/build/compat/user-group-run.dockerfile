FROM compat-base
USER app:web
RUN id -u > /tmp/u; id -g > /tmp/g
