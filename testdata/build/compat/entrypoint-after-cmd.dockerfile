FROM compat-base
CMD ["x"]
ENTRYPOINT ["echo"]
