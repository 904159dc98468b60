FROM compat-base
ARG N=a
ENV T=/v
COPY ${N}.txt $T/${N}
