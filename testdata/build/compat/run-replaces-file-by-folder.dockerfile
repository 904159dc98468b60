FROM compat-base
RUN echo f > /d
RUN rm /d && mkdir /d && echo x > /d/x
