FROM compat-base
ENV X=${Y:-dflt} Z=${PATH:+set} W=${Y}
