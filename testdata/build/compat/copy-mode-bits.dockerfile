FROM compat-base
COPY setuid run.sh b.txt /m/
