# Through a pipe: nginx opens /dev/stdout and /dev/stderr by their names, which a host's file doesn't allow it.
"$calque" run --rm --network none "$image" bash -euc '
    get() { exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3; cat <&3; }
    nginx
    get /health | tail -n 1
    get /index.html | tail -n 1
    nginx -s quit' 2>&1 | cat
