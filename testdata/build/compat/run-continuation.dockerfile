FROM compat-base
RUN echo a \
  # a comment within
  && echo b > /b
