FROM scratch
COPY a.txt /a
LABEL x=y
