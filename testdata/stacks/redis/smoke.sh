"$calque" run --rm --network none "$image" bash -euc '
    redis-server /etc/redis/app.conf --daemonize yes >/dev/null
    until redis-cli ping 2>/dev/null | grep -q PONG; do sleep 0.05; done
    redis-cli get sheet
    redis-cli lrange stack 0 -1
    redis-cli shutdown nosave'
