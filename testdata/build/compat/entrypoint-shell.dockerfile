FROM compat-base
ENTRYPOINT echo hi
CMD x
