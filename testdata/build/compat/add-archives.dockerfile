FROM compat-base
ADD plain.tar /a/
ADD packed.gz /b/
ADD packed.bz2 /c
ADD packed.xz /d/
