FROM compat-base
ENTRYPOINT ["echo"]
