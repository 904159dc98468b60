FROM compat-base
RUN mkdir /real && ln -s /real /l
COPY a.txt /l/
