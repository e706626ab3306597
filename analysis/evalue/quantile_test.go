package evalue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// near compares with a number as it was printed elsewhere, to half a unit of
// its last digit.
func near(t *testing.T, what string, got, want, half float64) {
	t.Helper()
	if !(math.Abs(got-want) <= half) {
		t.Errorf("%s: %.10g, published %v", what, got, want)
	}
}

// The published numbers are those of package confseq (gostevehoward/confseq,
// test/uniform_boundaries_unittest.cpp), which says that they come from a
// reference implementation in R. It compares to 1e-5.
func TestBetaMixturePublished(t *testing.T) {
	near(t, "best_rho", normalRho(100, 0.05), 12.60056, 5e-6)
	// beta_binomial_log_mixture(s=10, v=100, v_opt=100, g=.2, h=.8): 135 of 625.
	near(t, "log mixture", NewBetaMixture(0.2, 625).LogE(135, 625), -0.6941012, 5e-8)
	for _, c := range []struct {
		k, n, tuned int64
		lo, hi      float64
	}{
		{700, 1000, 100, 0.651629, 0.745949},
		{15, 50, 50, 0.129556, 0.511896},
		{5, 50, 50, 0.013021, 0.269264},
		{1, 50, 50, 0, 0.13489},
		{1, 2, 50, 0, 1},
		{100, 200, 1, 0.328923, 0.671076},
		{0, 1, 50, 0, 1},
		{1, 1, 50, 0, 1},
	} {
		lo, hi := ProportionInterval(c.k, c.n, c.tuned, 0.05)
		near(t, fmt.Sprintf("interval of %d of %d, low", c.k, c.n), lo, c.lo, 1e-5)
		near(t, fmt.Sprintf("interval of %d of %d, high", c.k, c.n), hi, c.hi, 1e-5)
	}
}

// TestQuantilePublished: 1..1000 in one arm, and the same moved up in the other.
func TestQuantilePublished(t *testing.T) {
	for _, c := range []struct {
		p     float64
		up    int
		value float64
	}{{0.5, 70, 0.814704}, {0.5, 85, 0.0838055}, {0.5, 100, 0.0054947}, {0.9, 55, 0.0340463}} {
		a, b := make([]int64, 1200), make([]int64, 1200)
		for i := range 1000 {
			a[i]++
			b[i+c.up]++
		}
		got := math.Exp(-NewQuantile(c.p, 100).Differ(a, b))
		near(t, fmt.Sprintf("p-value at %v, up by %d", c.p, c.up), min(1, got), c.value, 1e-5)
	}
	// Both minimize over eta by search; confseq's stops at 24 bits.
	near(t, "empirical_process_lil_bound", NewBand(0.05, 100).Radius(1000), 0.08204769, 1e-6)
}

// TestBetaMixtureExpectation: exactly 1 for any number of trials.
func TestBetaMixtureExpectation(t *testing.T) {
	for _, p := range []float64{0.01, 0.5, 0.95} {
		for _, n := range []int64{1, 5, 60} {
			sum := 0.0
			for k := range n + 1 {
				sum += math.Exp(logChoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p) + NewBetaMixture(p, 40).LogE(k, n))
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Errorf("p %v, %d trials: expectation %v", p, n, sum)
			}
		}
	}
}

// latencies draws values of a heavy tail (Pareto, index 1.5) into 60 buckets,
// each 9 % wide, times a factor.
func latencies(rng *rand.Rand, counts []int64, n int, factor float64) {
	for range n {
		v := factor * math.Pow(1-rng.Float64(), -1/1.5)
		i := int(math.Ceil(8 * math.Log2(v)))
		counts[min(max(i, 0), len(counts)-1)]++
	}
}

// trueQuantileBucket is where latencies has its p-quantile.
func trueQuantileBucket(p, factor float64) int {
	return int(math.Ceil(8 * math.Log2(factor*math.Pow(1-p, -1/1.5))))
}

// TestQuantileRates looks after every block, with unequal arms.
func TestQuantileRates(t *testing.T) {
	const rollouts, blocks, width = 80, 40, 60
	run := func(seed uint64, factor float64, stop func(b, c []int64) bool) float64 {
		stopped := 0
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			b, c := make([]int64, width), make([]int64, width)
			for range blocks {
				latencies(rng, b, 45, 1)
				latencies(rng, c, 15, factor)
				if stop(b, c) {
					stopped++
					break
				}
			}
		}
		return float64(stopped) / rollouts
	}
	const alpha = 0.1
	for _, p := range []float64{0.75, 0.95} {
		q := NewQuantile(p, 300)
		name := fmt.Sprintf("p%.0f", 100*p)
		atMost(t, name+" called higher without a difference", run(1, 1, func(b, c []int64) bool {
			return q.Evidence(b, c, Higher, 0) >= -math.Log(alpha)
		}), alpha, rollouts)
		atMost(t, name+" called different without a difference", run(2, 1, func(b, c []int64) bool {
			return q.Differ(b, c) >= -math.Log(alpha)
		}), alpha, rollouts)
		// 2^(1/4) is a shift by two buckets of 2^(1/8).
		factor := math.Exp2(0.25)
		atMost(t, name+" called above the margin at the margin", run(3, factor, func(b, c []int64) bool {
			return q.Evidence(b, c, Higher, 2) >= -math.Log(alpha)
		}), alpha, rollouts)
		atMost(t, name+" of an arm outside of its interval", run(4, factor, func(_, c []int64) bool {
			lo, hi := q.Interval(c, alpha)
			at := trueQuantileBucket(p, factor)
			return at < lo || at > hi
		}), alpha, rollouts)
		atMost(t, name+" shift outside of its interval", run(5, factor, func(b, c []int64) bool {
			lo, hi := q.Shift(b, c, alpha)
			return 2 < lo || 2 > hi
		}), alpha, rollouts)
		if p < 0.9 {
			if r := run(6, 1.6, func(b, c []int64) bool { return q.Evidence(b, c, Higher, 0) >= -math.Log(alpha) }); r < 0.9 {
				t.Errorf("%s: only %.3f of the canaries that are 1.6 times slower are found", name, r)
			}
			if r := run(7, 1/1.6, func(b, c []int64) bool { return q.Evidence(b, c, Lower, 0) >= -math.Log(alpha) }); r < 0.9 {
				t.Errorf("%s: only %.3f of the canaries that are 1.6 times faster are found", name, r)
			}
		}
	}
	band := NewBand(alpha/2, 50)
	atMost(t, "distributions called different without a difference", run(8, 1, func(b, c []int64) bool {
		_, _, differ := band.Apart(b, c)
		return differ
	}), alpha, rollouts)
	if r := run(9, 2, func(b, c []int64) bool {
		_, distance, differ := band.Apart(b, c)
		return differ && distance > 0
	}); r < 0.9 {
		t.Errorf("only %.3f of the distributions at twice the scale are told apart", r)
	}
	whole := NewBand(alpha, 50)
	atMost(t, "distributions that leave their band", run(10, 1, func(b, _ []int64) bool {
		var n, below int64
		for _, k := range b {
			n += k
		}
		for i, k := range b[:len(b)-1] {
			below += k
			truth := 1 - math.Pow(math.Exp2(float64(i)/8), -1.5)
			if math.Abs(float64(below)/float64(n)-truth) > whole.Radius(n) {
				return true
			}
		}
		return false
	}), alpha, rollouts)
}

// TestQuantilePower measures how many values of each arm show that the p75 of
// log-normal values (sigma 0.7) is 30 % higher, at alpha 0.01 and buckets of
// 4.4 %: by the quantile, by the quantile with a margin of two buckets, and by
// the share above the edge next to the baseline's p75, as a metric of counts.
func TestQuantilePower(t *testing.T) {
	const runs, alpha, width = 60, 0.01, 160
	var mean [3]float64
	for i := range runs {
		rng := rand.New(rand.NewPCG(20, uint64(i)))
		b, c := make([]int64, width), make([]int64, width)
		draw := func(counts []int64, factor float64) (above int64) {
			const block = 50
			for range block {
				v := factor * math.Exp(0.7*rng.NormFloat64())
				k := min(max(80+int(math.Ceil(16*math.Log2(v))), 0), width-1)
				counts[k]++
				if k > 80+11 { // 2^(11/16) is 1.61, the p75 is 1.60
					above++
				}
			}
			return above
		}
		q, share := NewQuantile(0.75, 1000), NewTwoSample(0.1)
		var need [3]float64
		for n := 50.; need[0] == 0 || need[1] == 0 || need[2] == 0; n += 50 {
			xb, xc := draw(b, 1), draw(c, 1.3)
			share.AddBlock(xc, xb, 50, 50)
			for k, e := range []float64{q.Evidence(b, c, Higher, 0), q.Evidence(b, c, Higher, 2), share.Harm()} {
				if need[k] == 0 && e >= -math.Log(alpha) {
					need[k] = n
				}
			}
		}
		for k := range mean {
			mean[k] += need[k] / runs
		}
	}
	t.Logf("values of each arm to show a p75 30 %% higher: %.0f, more than 9 %% higher: %.0f; by the share above a limit: %.0f", mean[0], mean[1], mean[2])
	if mean[0] > 3000 || mean[1] > 6000 || mean[2] > mean[0] {
		t.Errorf("values needed: %.0f", mean)
	}
}

// TestQuantileOddities: nothing is said about nothing.
func TestQuantileOddities(t *testing.T) {
	q := NewQuantile(0.75, 100)
	empty := make([]int64, 5)
	if e := q.Evidence(empty, empty, Higher, 0); e != 0 {
		t.Errorf("evidence %v without values", e)
	}
	if lo, hi := q.Interval(empty, 0.05); lo != 0 || hi != 4 {
		t.Errorf("interval %d to %d without values", lo, hi)
	}
	if lo, hi := q.Shift(empty, empty, 0.05); lo != -4 || hi != 4 {
		t.Errorf("shift %d to %d without values", lo, hi)
	}
	one := []int64{0, 0, 100000, 0, 0}
	if lo, hi := q.Shift(one, one, 0.05); lo != 0 || hi != 0 {
		t.Errorf("shift %d to %d of equal constants", lo, hi)
	}
	if e := q.Evidence(one, []int64{0, 0, 0, 100000, 0}, Higher, 0); e < 100 {
		t.Errorf("evidence %v of 100,000 values a bucket higher", e)
	}
	if e := q.Evidence(one, []int64{0, 0, 0, 100000, 0}, Higher, 1); e > 0 {
		t.Errorf("evidence %v of more than one bucket", e)
	}
}

func BenchmarkQuantileEvidence(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	base, canary := make([]int64, 642), make([]int64, 642)
	latencies(rng, base, 100_000, 100)
	latencies(rng, canary, 10_000, 110)
	q := NewQuantile(0.75, 1000)
	for range b.N {
		q.Evidence(base, canary, Higher, 2)
	}
}
