FROM compat-base
COPY [ab].txt /p/
