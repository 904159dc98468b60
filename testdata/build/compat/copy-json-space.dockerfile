FROM compat-base
COPY ["space d/f g", "/with space/"]
