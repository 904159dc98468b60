FROM compat-base
RUN echo x > /f && mkdir /d
RUN chmod 600 /f && chown 3:4 /d
