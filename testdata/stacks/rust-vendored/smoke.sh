"$calque" run --rm --network none "$image"
