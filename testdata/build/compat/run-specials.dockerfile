FROM compat-base
RUN mkfifo /p && ln /etc/passwd /hard && ln -s /nowhere /soft && touch /t && chmod 4711 /t
