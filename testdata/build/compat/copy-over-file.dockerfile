FROM compat-base
RUN echo old > /f && chmod 600 /f
COPY a.txt /f
