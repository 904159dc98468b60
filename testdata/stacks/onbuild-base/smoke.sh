"$calque" run --rm --network none --entrypoint ls "$image" -A /site /usr/local/bin
"$calque" inspect --type image "$image" | grep -A 4 '"OnBuild"'
