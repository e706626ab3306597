package evalue

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSomeOf compares with the sum over all sets of tenants.
func TestSomeOf(t *testing.T) {
	logEs := []float64{-3, 0.2, 5, -0.1, 40}
	want := 0.0
	for _, s := range hurtShares {
		for set := range 1 << len(logEs) {
			p := 1.0
			for i, e := range logEs {
				if set>>i&1 == 1 {
					p *= s * math.Exp(e)
				} else {
					p *= 1 - s
				}
			}
			want += p / float64(len(hurtShares))
		}
	}
	if got := SomeOf(logEs); math.Abs(got-math.Log(want)) > 1e-9 {
		t.Errorf("%v, want %v", got, math.Log(want))
	}
	if SomeOf(nil) != 0 || Average(nil) != 0 || math.Abs(SomeOf(make([]float64, 9))) > 1e-12 {
		t.Error("nothing is evidence of something")
	}
	if got := SomeOf([]float64{math.Inf(-1), math.Inf(-1), 3}); math.IsNaN(got) {
		t.Error("an e-value of 0 makes NaN")
	}
	if got, want := Average([]float64{math.Log(2), math.Log(4)}), math.Log(3); math.Abs(got-want) > 1e-12 {
		t.Errorf("average %v, want %v", got, want)
	}
}

// tenantMarks draws the failures of one tenant: a binomial number of them, each
// the canary's with the probability that the ratio makes.
func tenantMarks(rng *rand.Rand, g *Grid, failures int64, share, ratio float64) (m Marks) {
	k := bernoulliBatch(rng, failures, share*ratio/(1-share+share*ratio))
	g.AddCell(&m, k, failures-k, share)
	return m
}

// TestTenants: one of 1,000 tenants has five times the failures. e-BH on current
// values names it, and few others; the null that nobody is hurt is kept at all
// looks.
func TestTenants(t *testing.T) {
	const rollouts, tenants, share, alpha = 200, 1000, 0.5, 0.05
	g := NewGrid()
	named, falseShare, wholeSees := 0, 0.0, 0
	for i := range rollouts {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		logEs := make([]float64, tenants)
		var whole Marks
		for k := range logEs {
			ratio := 1.0
			if k == 17 {
				ratio = 5
			}
			m := tenantMarks(rng, g, 70, share, ratio)
			logEs[k] = g.Harm(m)
			whole.Merge(m)
		}
		found := EBH(logEs, alpha)
		others := len(found)
		if slices.Contains(found, 17) {
			named++
			others--
		}
		if len(found) > 0 {
			falseShare += float64(others) / float64(len(found)) / rollouts
		}
		if g.Harm(whole) >= math.Log(100) {
			wholeSees++
		}
	}
	t.Logf("one of %d tenants at ratio 5 with 70 failures each: named in %.3f, false discoveries %.4f; the whole looks unhealthy in %d of %d", tenants, float64(named)/rollouts, falseShare, wholeSees, rollouts)
	if named < rollouts*85/100 {
		t.Errorf("named in %d of %d", named, rollouts)
	}
	if falseShare > alpha {
		t.Errorf("a share of %v of the named is not to blame", falseShare)
	}
	if wholeSees > rollouts/4 {
		t.Errorf("the whole looks unhealthy in %d of %d: the case is no needle in a haystack", wholeSees, rollouts)
	}
}

// TestTenantsNull looks after each of 40 rounds at 100 healthy tenants.
func TestTenantsNull(t *testing.T) {
	const rollouts, tenants, alpha = 150, 100, 0.05
	g := NewGrid()
	some, average := 0, 0
	for i := range rollouts {
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		marks, logEs := make([]Marks, tenants), make([]float64, tenants)
		var hitSome, hitAverage bool
		for range 40 {
			for k := range marks {
				marks[k].Merge(tenantMarks(rng, g, rng.Int64N(4), 0.1, 1))
				logEs[k] = g.Harm(marks[k])
			}
			hitSome = hitSome || SomeOf(logEs) >= -math.Log(alpha)
			hitAverage = hitAverage || Average(logEs) >= -math.Log(alpha)
		}
		if hitSome {
			some++
		}
		if hitAverage {
			average++
		}
	}
	atMost(t, "some tenant hurt, falsely", float64(some)/rollouts, alpha, rollouts)
	atMost(t, "some tenant hurt, falsely, by the average", float64(average)/rollouts, alpha, rollouts)
}

// TestBrokenTenant: one of 200 tenants fails with every canary session, at a
// base rate of 1 %. How many of its failures are needed, at most?
func TestBrokenTenant(t *testing.T) {
	g := NewGrid()
	for _, share := range []float64{0.1, 0.5} {
		rng := rand.New(rand.NewPCG(3, uint64(100*share)))
		logEs := make([]float64, 200)
		for k := 1; k < len(logEs); k++ {
			m := tenantMarks(rng, g, 20, share, 1)
			logEs[k] = g.Harm(m)
		}
		var m Marks
		need := [3]int64{}
		for n := int64(1); need[0] == 0 || need[1] == 0 || need[2] == 0; n++ {
			g.Add(&m, true, share)
			logEs[0] = g.Harm(m)
			for i, found := range []bool{slices.Contains(EBH(logEs, 0.05), 0), Average(logEs) >= math.Log(100), SomeOf(logEs) >= math.Log(100)} {
				if found && need[i] == 0 {
					need[i] = n
				}
			}
		}
		t.Logf("share %v: named after %d failures, called by the average after %d, by SomeOf after %d", share, need[0], need[1], need[2])
		if need[0] > 20 || need[1] > 20 {
			t.Errorf("share %v: %v failures", share, need)
		}
	}
}
