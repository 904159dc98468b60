FROM compat-base
COPY packed.gz /a/
