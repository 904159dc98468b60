FROM compat-base
SHELL ["/bin/sh", "-e", "-c"]
RUN echo $- > /flags
CMD true
