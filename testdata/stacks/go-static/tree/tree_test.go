package tree

import "testing"

func TestWalkHasEveryValue(t *testing.T) {
	var root *Node
	for _, value := range []string{"m", "c", "x", "c"} {
		root = root.Insert(value)
	}
	if values := root.Walk(nil); len(values) != 4 {
		t.Fatalf("walked %q", values)
	}
}
