FROM compat-base
ENV A=1 B="two words" C='single $A' D=$A
ENV E old form
ENV F=a\ b
RUN echo $A-$B-$C-$D-$E-$F > /env
