package evalue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestTwoSampleExpectation enumerates all outcomes of a block after some
// histories: at every point of its null, of a grid of failure probabilities,
// the factor of each e-process has an expectation of at most 1.
func TestTwoSampleExpectation(t *testing.T) {
	type block struct{ xc, xb, nc, nb int64 }
	tight := 0.0
	for _, history := range [][]block{
		nil, {{1, 0, 1, 1}}, {{0, 1, 1, 1}}, {{3, 5, 10, 90}}, {{9, 30, 12, 60}, {1, 4, 3, 7}}, {{2, 1, 9, 200}}, {{0, 12, 20, 30}},
	} {
		for _, next := range [][2]int64{{1, 1}, {1, 9}, {5, 2}, {7, 7}} {
			for _, margin := range []float64{0.1, 0.5, 2} {
				before := NewTwoSample(margin)
				for _, b := range history {
					before.AddBlock(b.xc, b.xb, b.nc, b.nb)
				}
				for b := 0.02; b < 1; b += 0.07 {
					for c := 0.02; c < 1; c += 0.07 {
						harm, safe := 0.0, 0.0
						for xc := range next[0] + 1 {
							for xb := range next[1] + 1 {
								p := math.Exp(logChoose(next[0], xc) + logChoose(next[1], xb) +
									float64(xc)*math.Log(c) + float64(next[0]-xc)*math.Log1p(-c) +
									float64(xb)*math.Log(b) + float64(next[1]-xb)*math.Log1p(-b))
								after := before
								after.AddBlock(xc, xb, next[0], next[1])
								harm += p * math.Exp(after.Harm()-before.Harm())
								safe += p * math.Exp(after.Safety()-before.Safety())
							}
						}
						if c <= b && harm > 1+1e-9 {
							t.Errorf("after %v, block %v: harm's expectation is %v at %v and %v", history, next, harm, b, c)
						}
						if c >= (1+margin)*b && safe > 1+1e-9 {
							t.Errorf("after %v, block %v, margin %v: safety's expectation is %v at %v and %v", history, next, margin, safe, b, c)
						}
						if c <= b {
							tight = max(tight, harm)
						}
					}
				}
			}
		}
	}
	if tight < 0.999 {
		t.Errorf("the largest expectation within the null is %v, not near 1", tight)
	}
}

// TestTwoSampleValues: the first factors by hand, and the nearest
// point of the null by search.
func TestTwoSampleValues(t *testing.T) {
	ts := NewTwoSample(0.5)
	ts.AddBlock(1, 0, 1, 1) // nothing is known before: both means are 1/2
	if ts.Harm() != 0 {
		t.Errorf("the first block's harm is %v, want 0", ts.Harm())
	}
	ts.AddBlock(1, 0, 1, 1)
	c, b := 1.18/1.36, 0.18/1.36
	if want := math.Log(c / 0.5 * (1 - b) / 0.5); math.Abs(ts.Harm()-want) > 1e-12 {
		t.Errorf("harm %v, want %v", ts.Harm(), want)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		star, weight := [2]float64{rng.Float64(), rng.Float64()}, [2]float64{1 + 100*rng.Float64(), 1 + 100*rng.Float64()}
		ratio := 1 + rng.Float64()
		kl := func(b float64) (sum float64) {
			for a, q := range [2]float64{b, ratio * b} {
				sum += weight[a] * (star[a]*math.Log(star[a]/q) + (1-star[a])*math.Log((1-star[a])/(1-q)))
			}
			return sum
		}
		at := nearest(star, weight, ratio)
		for step := 1; step < 400; step++ {
			if b := float64(step) / 400 / ratio; kl(b) < kl(at)-1e-12 {
				t.Fatalf("%v %v ratio %v: %v is nearer than %v", star, weight, ratio, b, at)
			}
		}
	}
}

// TestTwoSampleRates looks after each block, in two strata with moving failure
// probabilities and an allocation that drifts.
func TestTwoSampleRates(t *testing.T) {
	const rollouts, blocks = 500, 100
	run := func(seed uint64, ratio float64, stop func(logHarm, logSafe float64) bool) float64 {
		stopped := 0
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			strata := [2]TwoSample{NewTwoSample(0.25), NewTwoSample(0.25)}
			for b := range blocks {
				for s := range strata {
					base := []float64{0.3, 0.1}[s] * (1 + 0.3*math.Sin(float64(b)/9))
					n, m := 1+rng.Int64N(int64(2+b/4)), 5+rng.Int64N(20)
					strata[s].AddBlock(bernoulliBatch(rng, n, base*ratio), bernoulliBatch(rng, m, base), n, m)
				}
				if stop(strata[0].Harm()+strata[1].Harm(), strata[0].Safety()+strata[1].Safety()) {
					stopped++
					break
				}
			}
		}
		return float64(stopped) / rollouts
	}
	harm := func(h, _ float64) bool { return h >= math.Log(20) }
	safe := func(_, s float64) bool { return s >= math.Log(20) }
	atMost(t, "false harm without a difference", run(1, 1, harm), 0.05, rollouts)
	atMost(t, "false safety at the margin", run(2, 1.25, safe), 0.05, rollouts)
	if r := run(3, 1.7, harm); r < 0.9 {
		t.Errorf("only %.3f of the canaries that fail 1.7 times as often are found", r)
	}
	if r := run(4, 0.7, safe); r < 0.9 {
		t.Errorf("only %.3f of the canaries that fail 0.7 times as often are proven safe", r)
	}
}

// TestTwoSampleAgainstCells: at a base rate of 40 % the test of two samples
// needs fewer sessions than the Poisson form, and the exact batch fewer still.
func TestTwoSampleAgainstCells(t *testing.T) {
	const rollouts, base, ratio = 200, 0.4, 1.25
	var mean [3]float64
	g := NewGrid()
	for i := range rollouts {
		rng := rand.New(rand.NewPCG(9, uint64(i)))
		two := NewTwoSample(0.25)
		var cell, batch Marks
		var sessions [3]float64
		for block := 0; sessions[0] == 0 || sessions[1] == 0 || sessions[2] == 0; block++ {
			const n = 20
			xc, xb := bernoulliBatch(rng, n, base*ratio), bernoulliBatch(rng, n, base)
			two.AddBlock(xc, xb, n, n)
			g.AddCell(&cell, xc, xb, 0.5)
			g.AddBatch(&batch, xc, xb, n, n)
			for k, e := range []float64{g.Harm(cell), two.Harm(), g.Harm(batch)} {
				if sessions[k] == 0 && e >= math.Log(100) {
					sessions[k] = float64(2 * n * (block + 1))
					mean[k] += sessions[k] / rollouts
				}
			}
		}
	}
	t.Logf("mean sessions to harm at 40 %% against 50 %%: cells %.0f, two samples %.0f, batches %.0f", mean[0], mean[1], mean[2])
	if !(mean[1] < mean[0] && mean[2] < mean[0]) {
		t.Errorf("mean sessions: cells %.0f, two samples %.0f, batches %.0f", mean[0], mean[1], mean[2])
	}
}

func BenchmarkTwoSample(b *testing.B) {
	t := NewTwoSample(0.25)
	b.ReportAllocs()
	for i := range b.N {
		t.AddBlock(int64(i&1), int64(i&3), 5, 9)
	}
}

func ExampleTwoSample() {
	t := NewTwoSample(0.25)
	for range 40 {
		t.AddBlock(5, 3, 10, 10)
	}
	fmt.Printf("harm %.1f, safety %.1f\n", t.Harm(), t.Safety())
	// Output: harm 16.4, safety -0.4
}
