FROM compat-base
HEALTHCHECK --interval=5s --timeout=3s --retries=4 --start-period=1m CMD true || exit 1
