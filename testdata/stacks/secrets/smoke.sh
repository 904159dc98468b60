"$calque" run --rm --network none "$image"
"$calque" run --rm --network none "$image" cat /signatures/second.sig
