FROM compat-base
ADD --chown=7:8 plain.tar /a/
