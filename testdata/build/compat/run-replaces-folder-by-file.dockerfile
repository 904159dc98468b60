FROM compat-base
RUN mkdir /d && echo x > /d/x
RUN rm -r /d && echo f > /d
