FROM compat-base
RUN ["sh", "-c", "echo $0 > /x", "zero"]
