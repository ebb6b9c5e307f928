// The programs of ../src/main.rs in Go, but for those that Go has no words for: a thread-local, and
// a block that is freed. What docs/reports.md shows of Go is what they print under `go run -race`.
package main

import (
	"bytes"
	"fmt"
	"os"
	"reports/tally"
	"runtime"
	"sync/atomic"
)

// then does a in a goroutine, then b here. The detector does not watch functions that are marked
// norace, so it does not know of the order.
//
//go:norace
func then(a, b func()) {
	var done = new(int32)
	go func() {
		a()
		set(done)
	}()
	for !isSet(done) {
		runtime.Gosched()
	}
	b()
}

//go:norace
//go:noinline
func set(done *int32) { *done = 1 }

//go:norace
//go:noinline
func isSet(done *int32) bool { return *done != 0 }

func heap() {
	total := new(int)
	first := func() { *total = 1 }
	second := func() { *total = 2 }
	then(first, second)
}

func stack() {
	total := 0
	first := func() { total = 1 }
	second := func() { total = 2 }
	then(first, second)
	fmt.Println(total)
}

var hits int

func global() {
	first := func() { hits = 1 }
	second := func() { hits = 2 }
	then(first, second)
}

func atomics() {
	ready := new(int64)
	first := func() { atomic.StoreInt64(ready, 1) }
	second := func() { sink = *ready }
	then(first, second)
}

func closes() {
	c := make(chan int, 1)
	first := func() { c <- 1 }
	second := func() { close(c) }
	then(first, second)
}

func maps() {
	ages := map[string]int{}
	first := func() { ages["Ann"] = 30 }
	second := func() { sink = int64(ages["Ann"]) }
	then(first, second)
}

func throughStd() {
	list := new(bytes.Buffer)
	list.Grow(8)
	first := func() { list.WriteByte(1) }
	second := func() { sink = int64(list.Len()) }
	then(first, second)
}

func dependency() {
	t := new(tally.Tally)
	first := func() { t.Add(1) }
	second := func() { t.Add(2) }
	then(first, second)
}

var sink int64

func main() {
	programs := map[string]func(){
		"heap": heap, "stack": stack, "global": global, "atomic": atomics, "close": closes,
		"map": maps, "through_std": throughStd, "dependency": dependency,
	}
	programs[os.Args[1]]()
}
