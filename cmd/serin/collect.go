package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcPercent is how much garbage there may be at least, in per cent of what is in
// use. Most of that is buffers and columns without pointers, so that to collect twice
// as often as Go does by itself is hardly seen in the profile, and leaves a tenth to
// a fifth of the memory free at full load (serin load --pid).
const gcPercent = 50

// A collection takes most of the processor, where there is one, for some 20 ms, and for 50
// beside 20,000 websockets, and acknowledgements wait for it. Where it is a hundredth of
// the time, their p99 is what it does. So there may be as much garbage as comes in a
// while, as long as all of the heap stays below a bound.
const (
	apart   = 8 * time.Second // between collections
	garbage = 128 << 20       // bytes, that there may be however little comes
	heap    = 288 << 20       // bytes, with what is in use; full load takes some 450 MB with it
)

// limitShare is the part of a memory limit (GOMEMLIMIT) that garbage is at most: near the
// limit events are shed, which garbage is no reason for.
const limitShare = 8

// collect keeps the collector at these until ctx ends.
func collect(ctx context.Context) {
	const each = 100 * time.Millisecond // what grows tenfold within it goes past the bound
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	t := time.NewTicker(each)
	defer t.Stop()
	var before [apart / each]uint64 // what was allocated in all, at the ticks before
	set := 0
	for i := 0; ; i = (i + 1) % len(before) {
		metrics.Read(s)
		allocated := s[0].Value.Uint64()
		live := s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64() // all of which a percentage is of
		percent := collectAt(live, allocated-before[i], debug.SetMemoryLimit(-1))
		before[i] = allocated
		// To set it stops all that runs.
		if off := percent - set; max(off, -off) > set/16 {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// collectAt returns the percentage of garbage for some bytes that are in use, where so many
// were allocated lately, under a limit of memory in bytes.
func collectAt(live, lately uint64, limit int64) int {
	room := heap - min(live, heap)
	return max(gcPercent, int(100*min(max(garbage, min(lately, room)), uint64(limit/limitShare))/max(live, 4<<20)))
}
