module example.invalid/tree

go 1.19
