FROM compat-base
COPY --chmod=640 a.txt /d/f
