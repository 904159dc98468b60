FROM compat-base
VOLUME ["/a", "/b c"]
