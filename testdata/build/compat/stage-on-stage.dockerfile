FROM compat-base AS one
ENV A=1
WORKDIR /w
CMD ["x"]
FROM one
RUN echo $A > a
