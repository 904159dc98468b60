FROM compat-base
COPY dir/*/two /p/
