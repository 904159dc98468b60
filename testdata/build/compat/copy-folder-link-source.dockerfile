FROM compat-base
COPY dirlink /l
