FROM compat-base
LABEL a=1 b="two words" c.d='x'
LABEL a=2
