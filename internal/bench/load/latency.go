package load

import (
	"math/bits"
	"time"
)

// The buckets of a latency are 64 to each power of two, so that a quantile is
// off by at most 1.6 %.
const (
	subBits = 6
	sub     = 1 << subBits
	octaves = 36 // up to 2^41 ns, more than half an hour
)

// latencies counts durations in buckets. The zero value is empty.
type latencies struct {
	counts [(octaves + 1) * sub]uint32
	n      uint64
	max    time.Duration
}

// bucket returns the bucket of a duration in nanoseconds.
func bucket(ns uint64) int {
	if ns < sub {
		return int(ns)
	}
	octave := bits.Len64(ns) - subBits // 1 for 64 to 127
	if octave > octaves {
		return (octaves+1)*sub - 1
	}
	return octave*sub + int(ns>>(octave-1)) - sub
}

// upper returns the longest duration of a bucket.
func upper(b int) time.Duration {
	if b < sub {
		return time.Duration(b)
	}
	octave := b / sub
	return time.Duration(uint64(sub+b%sub+1)<<(octave-1) - 1)
}

func (l *latencies) add(d time.Duration) {
	d = max(d, 0)
	l.counts[bucket(uint64(d))]++
	l.n++
	l.max = max(l.max, d)
}

func (l *latencies) merge(o *latencies) {
	for i, c := range o.counts {
		l.counts[i] += c
	}
	l.n += o.n
	l.max = max(l.max, o.max)
}

// quantile returns the duration that a share q of all do not exceed, and 0
// where there are none.
func (l *latencies) quantile(q float64) time.Duration {
	if l.n == 0 {
		return 0
	}
	rank := max(uint64(q*float64(l.n)+0.999999), 1)
	seen := uint64(0)
	for i, c := range l.counts {
		if seen += uint64(c); seen >= rank {
			return min(upper(i), l.max)
		}
	}
	return l.max
}
