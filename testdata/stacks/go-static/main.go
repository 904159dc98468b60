// Sorts its arguments by a binary tree.
package main

import (
	"fmt"
	"os"
	"strings"

	"example.invalid/tree/tree"
)

func main() {
	var root *tree.Node
	for _, argument := range os.Args[1:] {
		root = root.Insert(argument)
	}
	fmt.Println(strings.Join(root.Walk(nil), " "))
}
