FROM compat-base
WORKDIR /w/x
COPY a.txt .
COPY b.txt sub/
COPY run.sh ../up
