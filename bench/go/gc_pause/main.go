// How long the collector keeps a program waiting that has a lot alive. It does what bench/src/gc_pause.rs does, and prints
// the same line:
//
//	go gc_pause live_mib=... cycles=... pause_p50_us=... pause_max_us=... wait_max_us=... wall_ms=...
//
//	gc_pause 1024 10
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"
)

// 64 bytes, of which one word is a pointer.
type node struct {
	next *node
	rest [7]uint64
}

const (
	lists    = 1024
	nodeSize = 64
)

func main() {
	mib, cycles := argument(1), argument(2)
	start := time.Now()
	// Lists, as a real heap has them: neither one long chain nor all roots.
	live := make([]*node, lists)
	for i := range mib << 20 / nodeSize {
		live[i%lists] = &node{next: live[i%lists]}
	}
	runtime.GC()
	var before debug.GCStats
	debug.ReadGCStats(&before)
	var waitMax time.Duration
	for {
		var now debug.GCStats
		debug.ReadGCStats(&now)
		if now.NumGC >= before.NumGC+int64(cycles) {
			report(now, int(now.NumGC-before.NumGC), waitMax, time.Since(start))
			break
		}
		// Each new node takes the place of one that dies.
		for i := 0; i < 4096; i += 16 {
			began := time.Now()
			for j := i; j < i+16; j++ {
				live[j%lists] = &node{next: live[j%lists].next}
			}
			waitMax = max(waitMax, time.Since(began))
		}
	}
	runtime.KeepAlive(live)
}

func argument(i int) int {
	if len(os.Args) == 3 {
		if n, err := strconv.Atoi(os.Args[i]); err == nil && n > 0 {
			return n
		}
	}
	fmt.Fprintln(os.Stderr, "usage: gc_pause <MiB alive> <collections>")
	os.Exit(2)
	return 0
}

func report(stats debug.GCStats, cycles int, waitMax, wall time.Duration) {
	// The newest are first; a cycle has two pauses, of which Go gives the sum.
	pauses := slices.Clone(stats.Pause[:min(cycles, len(stats.Pause))])
	slices.Sort(pauses)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	fmt.Printf("go gc_pause live_mib=%d cycles=%d pause_p50_us=%.1f pause_max_us=%.1f wait_max_us=%.1f wall_ms=%.0f\n",
		live[0].Value.Uint64()>>20, cycles, us(pauses[len(pauses)/2]), us(pauses[len(pauses)-1]), us(waitMax), us(wall)/1e3)
}
