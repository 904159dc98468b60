# escape=`
FROM compat-base
RUN echo a `
  > /a
