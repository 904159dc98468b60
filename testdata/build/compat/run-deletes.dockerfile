FROM compat-base
RUN mkdir /d && echo x > /d/x && echo y > /d/y
RUN rm /d/x
RUN rm -r /home/app
