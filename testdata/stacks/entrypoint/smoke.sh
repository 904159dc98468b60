"$calque" run --rm --network none "$image"
"$calque" run --rm --network none "$image" sh -c 'id -u; exit 0'
