FROM compat-base
USER app
RUN id > /tmp/id; echo $HOME > /tmp/home
