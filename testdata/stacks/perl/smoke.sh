echo "the sheet on the sheet" | "$calque" run --rm -i --network none "$image"
