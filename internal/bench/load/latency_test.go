package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsHoldTheirDurations(t *testing.T) {
	last := -1
	for _, ns := range []uint64{0, 1, 63, 64, 65, 127, 128, 129, 1000, 1e6, 1e9, 1e12, 1 << 41, 1 << 50} {
		b := bucket(ns)
		if b < last {
			t.Errorf("%d ns is in bucket %d, below that of less", ns, b)
		}
		last = b
		if u := upper(b); ns < 1<<41 && (uint64(u) < ns || float64(u) > float64(ns)*(1+1./sub)+1) {
			t.Errorf("%d ns is in a bucket up to %d", ns, u)
		}
	}
	// Without gaps: the next duration after a bucket's longest is in the next.
	for b := range octaves * sub {
		if got := bucket(uint64(upper(b)) + 1); got != b+1 {
			t.Fatalf("after bucket %d (up to %d ns) comes %d", b, upper(b), got)
		}
	}
}

// TestQuantiles holds the buckets against sorted values, in two parts that are
// merged.
func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var a, b latencies
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(1e6 * rng.ExpFloat64() * rng.ExpFloat64() * 3)
		all = append(all, d)
		if i%3 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(q*float64(len(all))+0.999999)-1, 0)]
		got := a.quantile(q)
		if got < want || float64(got) > float64(want)*(1+1./sub)+1 {
			t.Errorf("quantile %v is %v, want %v and at most 1/%d more", q, got, want, sub)
		}
	}
	if a.quantile(1) != all[len(all)-1] {
		t.Errorf("the longest is %v, want %v", a.quantile(1), all[len(all)-1])
	}
	var none latencies
	if none.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}
