// Package tree is a binary tree of strings.
package tree

// Node is a tree; nil is the empty one.
type Node struct {
	value       string
	left, right *Node
}

// Insert gives the tree with value in it.
func (n *Node) Insert(value string) *Node {
	if n == nil {
		return &Node{value: value}
	}
	if value < n.value {
		n.left = n.left.Insert(value)
	} else {
		n.right = n.right.Insert(value)
	}
	return n
}

// Walk appends the values in order.
func (n *Node) Walk(values []string) []string {
	if n == nil {
		return values
	}
	return n.right.Walk(append(n.left.Walk(values), n.value))
}
