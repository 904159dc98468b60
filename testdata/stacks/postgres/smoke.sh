"$calque" run --rm --network none "$image" bash -euc '
    pg_ctl --silent --wait start --log=/tmp/log
    psql --quiet --tuples-only --no-align --command "
        WITH RECURSIVE stack AS (SELECT id, name FROM sheet WHERE below IS NULL
            UNION ALL SELECT sheet.id, stack.name || chr(62) || sheet.name FROM sheet JOIN stack ON below = stack.id)
        SELECT max(name) FROM stack"
    pg_ctl --silent --wait --mode=fast stop'
