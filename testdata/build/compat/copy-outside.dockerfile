FROM compat-base
COPY ../../a.txt /o/
