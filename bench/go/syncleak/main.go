// Memory that has to come back: a thousand goroutines, each of which allocates a thousand atomic numbers in a loop,
// touches one, and keeps the last ten or so. It does what Raddle's examples/syncleak.rs does. With and without -race.
//
//	syncleak 400
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	goroutines = 1000
	numbers    = 1000 // in a slice
	slots      = 10   // slices that a goroutine keeps
)

var done atomic.Uint64

func main() {
	iterations := 0
	if len(os.Args) == 2 {
		iterations, _ = strconv.Atoi(os.Args[1])
	}
	if iterations < 1 {
		fmt.Fprintln(os.Stderr, "usage: syncleak ITERATIONS, of each of the 1000 goroutines")
		os.Exit(2)
	}
	start := time.Now()
	var group sync.WaitGroup
	for seed := range uint64(goroutines) {
		group.Go(func() { work(random(seed), iterations) })
	}
	group.Wait()
	fmt.Printf("%10d iterations  %7.2f s\n", done.Load(), time.Since(start).Seconds())
}

// What each goroutine does.
func work(r random, iterations int) {
	var kept [slots][]uint32
	for i := 1; i <= iterations; i++ {
		s := make([]uint32, numbers)
		atomic.AddUint32(&s[r.below(numbers)], 1)
		kept[r.below(slots)] = s
		// Together with others': a count that all shared would be what takes the time.
		if i%16 == 0 || i == iterations {
			done.Add(uint64((i-1)%16 + 1))
		}
	}
	runtime.KeepAlive(&kept)
}

// SplitMix64.
type random uint64

func (r *random) below(n uint64) uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return (z ^ (z >> 31)) % n
}
