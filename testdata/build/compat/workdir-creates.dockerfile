FROM compat-base
WORKDIR /x/y
WORKDIR z
