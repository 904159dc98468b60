FROM compat-base
COPY ["[[]b]racket", "/p/"]
