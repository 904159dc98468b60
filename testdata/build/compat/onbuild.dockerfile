FROM compat-base
ONBUILD RUN echo x > /x
ONBUILD COPY a.txt /a
