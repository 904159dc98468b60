FROM compat-base
MAINTAINER somebody
