package journal

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAppend appends messages of the size that a group closes at, with as
// many in flight as the admitting role has.
func BenchmarkAppend(b *testing.B) {
	const size, inFlight = 256 << 10, 4
	l := openLog(b, open(b, Options{Dir: b.TempDir()}), "bench", LogOptions{})
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if _, err := l.Append(context.Background(), data); err != nil {
					b.Error(err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	reportQuantiles(b, took)
}

// BenchmarkDeliver measures from the acknowledgment to a waiting follower.
func BenchmarkDeliver(b *testing.B) {
	l := openLog(b, open(b, Options{Dir: b.TempDir()}), "bench", LogOptions{})
	arrived := make(chan time.Time, 1)
	go l.Follow(b.Context(), 1, func(Message) error { arrived <- time.Now(); return nil })
	data := make([]byte, 16<<10)
	took := make([]time.Duration, b.N)
	for i := range b.N {
		if _, err := l.Append(context.Background(), data); err != nil {
			b.Fatal(err)
		}
		acked := time.Now()
		took[i] = max(0, (<-arrived).Sub(acked))
	}
	reportQuantiles(b, took)
}

// BenchmarkScan reads back what BenchmarkAppend wrote, one message per op.
func BenchmarkScan(b *testing.B) {
	const size = 256 << 10
	l := openLog(b, open(b, Options{Dir: b.TempDir()}), "bench", LogOptions{})
	data := make([]byte, size)
	for range b.N {
		if _, err := l.Append(context.Background(), data); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	b.ResetTimer()
	if err := l.Scan(context.Background(), 1, uint64(b.N), func(Message) error { return nil }); err != nil {
		b.Fatal(err)
	}
}

func reportQuantiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
}
