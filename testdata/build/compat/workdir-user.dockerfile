FROM compat-base
USER app
WORKDIR /home/app/x
