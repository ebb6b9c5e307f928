// Binary trees of collected nodes: the program of the Computer Language Benchmarks Game, with a goroutine for each
// depth. It does what Raddle's examples/binary_trees.rs does, and prints the same.
//
//	binary_trees 16
package main

import (
	"fmt"
	"os"
	"strconv"
)

const minDepth = 4

type tree struct{ left, right *tree }

func newTree(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{newTree(depth - 1), newTree(depth - 1)}
}

func (t *tree) check() int {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.check() + t.right.check()
}

func main() {
	depth := minDepth + 2
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil || n < 0 {
			fmt.Fprintf(os.Stderr, "binary_trees: %q is no depth\n", os.Args[1])
			os.Exit(2)
		}
		depth = max(n, minDepth+2)
	}
	fmt.Printf("stretch tree of depth %d\t check: %d\n", depth+1, newTree(depth+1).check())

	longLived := newTree(depth)
	var lines []chan string
	for d := minDepth; d <= depth; d += 2 {
		line := make(chan string)
		lines = append(lines, line)
		go func() { line <- many(1<<(depth-d+minDepth), d) }()
	}
	for _, line := range lines {
		fmt.Println(<-line)
	}
	fmt.Printf("long lived tree of depth %d\t check: %d\n", depth, longLived.check())
}

// Makes so many trees, one after the other.
func many(trees, depth int) string {
	check := 0
	for range trees {
		check += newTree(depth).check()
	}
	return fmt.Sprintf("%d\t trees of depth %d\t check: %d", trees, depth, check)
}
