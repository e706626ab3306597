package ingest

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
)

// memoryShare is the part of the memory limit past which events are shed: from
// there on the collector takes the processor from everything else.
const memoryShare = 0.9

// memoryShort returns a sign of the process nearing its memory limit, which is
// Go's own (GOMEMLIMIT); without one it is never short.
func memoryShort() func() bool {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	return func() bool {
		limit := debug.SetMemoryLimit(-1) // which only reads it
		if limit == math.MaxInt64 {
			return false
		}
		metrics.Read(samples)
		return float64(samples[0].Value.Uint64()-samples[1].Value.Uint64()) > memoryShare*float64(limit)
	}
}
