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

// garbage is how much there may be of it in any case, in bytes. A collection takes a
// part of the processors for some 20 ms, for which acknowledgements wait where there
// is one; to collect some tens of megabytes twice a second is what their p99 would be.
const garbage = 128 << 20

// limitShare is the part of a memory limit (GOMEMLIMIT) that it is at most: near the
// limit events are shed, which garbage is no reason for.
const limitShare = 8

// collect keeps the collector at these until ctx ends.
func collect(ctx context.Context) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	t := time.NewTicker(100 * time.Millisecond) // what grows tenfold within it goes past the bound
	defer t.Stop()
	for {
		metrics.Read(live)
		debug.SetGCPercent(collectAt(live[0].Value.Uint64(), debug.SetMemoryLimit(-1)))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// collectAt returns the percentage of garbage for some bytes that are in use, under a
// limit of memory in bytes.
func collectAt(live uint64, limit int64) int {
	return max(gcPercent, int(100*uint64(min(garbage, limit/limitShare))/max(live, 4<<20)))
}
