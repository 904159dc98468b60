FROM compat-base
CMD ["echo", "hi"]
