FROM compat-base
RUN mkdir -p /d/sub && echo old > /d/sub/old && chmod 700 /d/sub
COPY dir /d
