FROM compat-base AS s
ONBUILD RUN echo x > /x
FROM s
RUN echo y >> /x
