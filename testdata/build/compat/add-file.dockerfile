FROM compat-base
ADD a.txt dir /f/
