package evalue

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// TestMeanExpectation enumerates values of 0, 1/3 and 1: at each candidate mean
// that is within its null, the expectation of the next factor is at most 1,
// and 1 at the mean itself.
func TestMeanExpectation(t *testing.T) {
	values := []float64{0, 1. / 3, 1}
	for _, history := range [][]float64{nil, {0}, {1, 1}, {0, 0, 0, 0, 1. / 3, 0, 0, 0}, {1, 0, 1. / 3, 1, 0, 1, 1, 1, 1}} {
		var before BoundedMean
		for _, x := range history {
			before.add(x)
		}
		for _, p := range [][3]float64{{0.8, 0.1, 0.1}, {0.1, 0.3, 0.6}, {0.98, 0.01, 0.01}, {0, 1, 0}} {
			mean := p[1]/3 + p[2]
			var above, below [meanSteps + 1]float64
			for i, x := range values {
				after := before
				after.add(x)
				for k := range meanPoints {
					above[k] += p[i] * math.Exp(after.LogAbove[k]-before.LogAbove[k])
					below[k] += p[i] * math.Exp(after.LogBelow[k]-before.LogBelow[k])
				}
			}
			for k, m := range meanPoints {
				if m >= mean && above[k] > 1+1e-12 || m <= mean && below[k] > 1+1e-12 {
					t.Errorf("after %v, mean %v: expectations %v and %v at %v", history, mean, above[k], below[k], m)
				}
			}
			for k := range meanSteps {
				if above[k] < above[k+1]-1e-12 || below[k] > below[k+1]+1e-12 {
					t.Errorf("after %v: the factors are not monotone at %v", history, meanPoints[k])
				}
			}
		}
	}
}

// TestMeanBets: the first bets of the plug-in are those that package confseq
// tests (test/python_tests/test_predmix.py, test_lambda_predmix_eb): sqrt(2
// ln(1/0.05) / (1/4 ln 2)), here seen where no cap applies.
func TestMeanBets(t *testing.T) {
	var a BoundedMean
	a.add(1)
	bet := math.Sqrt(2 * math.Log(1/0.05) / (0.25 * math.Log(2)))
	if want := math.Log1p(bet); math.Abs(a.LogAbove[0]-want) > 1e-12 {
		t.Errorf("K+ at 0 after one value of 1: %v, want %v", a.LogAbove[0], want)
	}
	if want := math.Log1p(-0.5); math.Abs(a.LogBelow[0]-want) > 1e-12 {
		t.Errorf("K- at 0 after one value of 1: %v, want the cap's %v", a.LogBelow[0], want)
	}
}

// TestMeanRates looks after every tenth value, with skewed values (beta-like,
// mean 0.1), arms of 4 to 1.
func TestMeanRates(t *testing.T) {
	const rollouts, values, alpha = 70, 1000, 0.1
	draw := func(rng *rand.Rand, factor float64) float64 {
		u := rng.Float64()
		return 5 * factor * math.Pow(u, 9) // of mean 0.5*factor
	}
	run := func(seed uint64, factor float64, stop func(*BoundedMeans) bool) float64 {
		stopped := 0
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			m := NewBoundedMeans(10 * max(1, factor/2))
			for n := range values {
				canary := rng.IntN(5) == 0
				f := 1.0
				if canary {
					f = factor
				}
				if err := m.Add(canary, draw(rng, f)); err != nil {
					t.Fatal(err)
				}
				if n%10 == 9 && stop(m) {
					stopped++
					break
				}
			}
		}
		return float64(stopped) / rollouts
	}
	atMost(t, "means called higher without a difference", run(1, 1, func(m *BoundedMeans) bool { return m.Evidence(Higher, 0) >= -math.Log(alpha) }), alpha, rollouts)
	atMost(t, "means called lower at the margin", run(2, 0.5, func(m *BoundedMeans) bool { return m.Evidence(Lower, 0.25) >= -math.Log(alpha) }), alpha, rollouts)
	atMost(t, "intervals that miss at some time", run(3, 2, func(m *BoundedMeans) bool {
		lo, hi := m.Interval(true, alpha)
		return lo > 1 || hi < 1
	}), alpha, rollouts)
	atMost(t, "differences that miss at some time", run(4, 2, func(m *BoundedMeans) bool {
		lo, hi := m.Difference(alpha)
		return lo > 0.5 || hi < 0.5
	}), alpha, rollouts)
	if r := run(5, 3.5, func(m *BoundedMeans) bool { return m.Evidence(Higher, 0) >= -math.Log(alpha) }); r < 0.8 {
		t.Errorf("only %.3f of the means 3.5 times as high are found", r)
	}
}

// TestMeanFarFromBound has exponential values that are small beside their bound,
// as those of a basket are. A mean that is half as high again is found, 12 standard
// errors as it is, and one that is not worse is proven; candidates that neither arm
// can have must not undo what the arms show.
func TestMeanFarFromBound(t *testing.T) {
	const rollouts, values = 20, 2000
	for _, c := range []struct {
		bound, factor float64
		direction     Direction
		margin        float64
	}{
		{20, 1.5, Higher, 0}, {100, 2.5, Higher, 0}, // harm
		{20, 1, Lower, -0.5}, {100, 1, Lower, -1.5}, // safe: not worse by a margin
		{20, 1, Higher, -0.5}, // safe where less is harm
	} {
		shown, least := 0, math.Inf(1)
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(11, uint64(i)))
			m := NewBoundedMeans(c.bound)
			for range values {
				if err := errors.Join(m.Add(false, min(c.bound, rng.ExpFloat64())), m.Add(true, min(c.bound, c.factor*rng.ExpFloat64()))); err != nil {
					t.Fatal(err)
				}
			}
			e := m.Evidence(c.direction, c.margin)
			least = min(least, e)
			if e >= math.Log(100) {
				shown++
			}
		}
		if shown < rollouts*9/10 {
			t.Errorf("%+v: shown in %d of %d, at least %.3g nats", c, shown, rollouts, least)
		}
	}
}

// TestMeanScale: evidence does not depend on the unit.
func TestMeanScale(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	one := NewBoundedMeans(7)
	scales := []float64{1e-9, 1e-6, 0.125, 1e9}
	others := make([]*BoundedMeans, len(scales))
	for i, s := range scales {
		others[i] = NewBoundedMeans(7 * s)
	}
	for i := range 300 {
		v := 7 * rng.Float64()
		_ = one.Add(i%3 == 0, v)
		for j, s := range scales {
			_ = others[j].Add(i%3 == 0, v*s)
		}
	}
	lo, hi := one.Difference(0.1)
	for j, s := range scales {
		if a, b := one.Evidence(Higher, 0.1), others[j].Evidence(Higher, 0.1*s); math.Abs(a-b) > 1e-9 {
			t.Errorf("at scale %v: evidence %v, not %v", s, b, a)
		}
		if l, h := others[j].Difference(0.1); math.Abs(l/s-lo) > 1e-4 || math.Abs(h/s-hi) > 1e-4 {
			t.Errorf("at scale %v: difference %v to %v, not %v to %v", s, l/s, h/s, lo, hi)
		}
	}
	for _, v := range []float64{-1, 7.1, math.NaN(), math.Inf(1)} {
		if err := one.Add(true, v); err == nil {
			t.Errorf("a value of %v is taken", v)
		}
	}
}

func BenchmarkBoundedMeans(b *testing.B) {
	m := NewBoundedMeans(1)
	b.ReportAllocs()
	for i := range b.N {
		if err := m.Add(i&1 == 0, float64(i%100)/100); err != nil {
			b.Fatal(err)
		}
	}
}
