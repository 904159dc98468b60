"$calque" run --rm --network none "$image" bash -euc '
    php -S 127.0.0.1:8000 -t public 2>/tmp/log & server=$!
    until php -r "exit(@fsockopen(\"127.0.0.1\", 8000) ? 0 : 1);"; do sleep 0.1; done
    php -r "readfile(\"http://127.0.0.1:8000/?title=A+Sheet\");"
    kill $server'
