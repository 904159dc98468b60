ARG G=compat-base
FROM $G
RUN echo "[$G]" > /before
ARG G
RUN echo "[$G]" > /after
