package evalue

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestNormalMixturePublished: numbers of package confseq
// (test/uniform_boundaries_unittest.cpp, TestTwoSidedNormalMixture) and of the
// README of package avlm (michaellindon/avlm), where intervals at the optimal g
// for 100 values and 8 coefficients have half widths of 3.104 standard errors,
// which a t-mixture of 92 degrees of freedom has and the normal one nears.
func TestNormalMixturePublished(t *testing.T) {
	rho := normalRho(100, 0.05)
	near(t, "normal_log_mixture", normalLogMixture(10, 100, rho), -0.6510052, 5e-8)
	// The bound in a sum of variance 100 is 10 standard errors of 1/10.
	near(t, "normal_mixture_bound", 10*zRadius(100, rho, 0.05), 30.35209, 5e-6)
	if got := zRadius(100, rho, 0.05) * 0.21566; math.Abs(got/0.6693939-1) > 0.03 {
		t.Errorf("the half width of avlm's example is %v, published with 92 degrees of freedom 0.6694", got)
	}
	// At its end an interval just touches 0: the e-process is at 1/alpha.
	z := zRadius(700, 40, 0.01)
	if got := normalLogMixture(z*math.Sqrt(700), 700, 40); math.Abs(got-math.Log(100)) > 1e-9 {
		t.Errorf("the e-process at the interval's end is exp(%v)", got)
	}
}

func TestAdjustedMoments(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var all, left, right AdjustedMeans
	var ys, xs []float64
	for i := range 700 {
		x := 1e6 + rng.NormFloat64()
		y := 3*x + rng.ExpFloat64()
		part := &left
		if i%7 == 0 {
			part = &right
		}
		for _, a := range []*AdjustedMeans{&all, part} {
			if err := a.Add(true, y, x); err != nil {
				t.Fatal(err)
			}
		}
		ys, xs = append(ys, y), append(xs, x)
	}
	left.Merge(right)
	var mean, cov, square, cube, covSquare, product float64
	for i := range ys {
		mean += ys[i] / float64(len(ys))
		cov += xs[i] / float64(len(xs))
	}
	for i := range ys {
		d, e := ys[i]-mean, xs[i]-cov
		square += d * d
		cube += d * d * d
		covSquare += e * e
		product += d * e
	}
	for name, m := range map[string]Moments{"in one": all.Arms[1], "merged": left.Arms[1]} {
		for _, c := range [][2]float64{{m.Mean, mean}, {m.Covariate, cov}, {m.Square, square}, {m.Cube, cube}, {m.CovSquare, covSquare}, {m.CovProduct, product}} {
			if math.Abs(c[0]-c[1]) > 1e-6*math.Abs(c[1]) {
				t.Errorf("%s: %v, want %v", name, c[0], c[1])
			}
		}
	}
}

// TestAdjustedRates: a covariate that explains most, or values that are 1 with
// probability 0.04 and else 0; arms of 9 to 1; a look after every 50 values
// from the burn-in on.
func TestAdjustedRates(t *testing.T) {
	const alpha = 0.05
	run := func(seed uint64, effect float64, skewed bool, rollouts int, stop func(Difference) bool) (stopped, explained float64) {
		looks, values := 0, 8000
		if skewed {
			values = 40_000
		}
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var a AdjustedMeans
			for n := range values {
				x, y := 0.0, 0.0
				if !skewed {
					x = rng.ExpFloat64()
					y = 2*x + 0.5*rng.NormFloat64()
				} else if rng.Float64() < 0.04 {
					y = 1
				}
				canary := rng.IntN(10) == 0
				if canary {
					y += effect
				}
				if err := a.Add(canary, y, x); err != nil {
					t.Fatal(err)
				}
				if n%50 != 49 {
					continue
				}
				d, err := a.Difference(alpha, 5000)
				if err != nil {
					continue
				}
				looks++
				explained = d.Explained
				if stop(d) {
					stopped += 1 / float64(rollouts)
					break
				}
			}
		}
		if stopped < 0.5 && looks < 10*rollouts {
			t.Errorf("only %d looks in %d rollouts", looks, rollouts)
		}
		return stopped, explained
	}
	missed := func(effect float64) func(Difference) bool {
		return func(d Difference) bool { return d.Low > effect || d.High < effect }
	}
	rate, explained := run(1, 0.3, false, 120, missed(0.3))
	atMost(t, "adjusted differences that miss at some time", rate, alpha, 120)
	if explained < 0.8 {
		t.Errorf("the covariate explains %.2f of the variance, of about 0.94", explained)
	}
	rate, _ = run(2, 0, true, 60, missed(0))
	atMost(t, "differences of skewed values that miss at some time", rate, alpha, 60)
	rate, _ = run(3, 0.2, false, 80, func(d Difference) bool { return d.LogE >= -math.Log(alpha) })
	if rate < 0.95 {
		t.Errorf("only %.3f of the differences are found", rate)
	}
}

// TestAdjustedRefuses: the reasons, and what is said about a rare event.
func TestAdjustedRefuses(t *testing.T) {
	fill := func(n int, value func(i int) float64) AdjustedMeans {
		var a AdjustedMeans
		for i := range 2 * n {
			if err := a.Add(i%2 == 0, value(i), 0); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	for want, a := range map[string]AdjustedMeans{
		"at least 500 are needed": fill(400, func(i int) float64 { return float64(i % 10) }),
		"no variance":             fill(600, func(int) float64 { return 3 }),
		"must be counted": fill(5000, func(i int) float64 {
			if i%200 < 2 {
				return 1
			}
			return 0
		}),
	} {
		if _, err := a.Difference(0.05, 1000); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	var a AdjustedMeans
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if a.Add(true, v, 0) == nil || a.Add(true, 0, v) == nil {
			t.Errorf("%v is taken", v)
		}
	}
}

// TestAdjustedScale: evidence depends neither on the unit nor on the origin.
func TestAdjustedScale(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	scales := []float64{1, 1e-9, 1e-6, 1e9}
	states := make([]AdjustedMeans, len(scales))
	for i := range 3000 {
		x := rng.ExpFloat64()
		y := x + rng.NormFloat64() + float64(i%2)/10
		for j, s := range scales {
			_ = states[j].Add(i%2 == 0, y*s, x*s)
		}
	}
	want, err := states[0].Difference(0.05, 2000)
	if err != nil {
		t.Fatal(err)
	}
	for j, s := range scales {
		got, err := states[j].Difference(0.05, 2000)
		if err != nil || math.Abs(got.LogE-want.LogE) > 1e-9 || math.Abs(got.Low/s-want.Low) > 1e-9 {
			t.Errorf("at scale %v: %+v, %v; want %+v", s, got, err, want)
		}
	}
}

func BenchmarkAdjusted(b *testing.B) {
	var a AdjustedMeans
	for i := range b.N {
		if err := a.Add(i&1 == 0, float64(i%100), float64(i%7)); err != nil {
			b.Fatal(err)
		}
	}
}
