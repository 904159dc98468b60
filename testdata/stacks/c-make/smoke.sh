printf 'one sheet\nand another\n' | "$calque" run --rm -i --network none "$image"
