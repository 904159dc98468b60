FROM compat-base
COPY link /l
