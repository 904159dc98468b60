FROM compat-base
RUN mkdir /d && echo x > /d/x
RUN rm -r /d && mkdir /d && echo y > /d/y
