# build: --label x=flag
FROM compat-base
LABEL x=file
