FROM compat-base
COPY . /all/
