package evalue

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestOneSidedMixture(t *testing.T) {
	// The integral of exp(l s - l^2 v/2) over the half-normal density, by sums.
	for _, c := range []struct{ s, v, rho float64 }{{0, 1, 1}, {3, 10, 2}, {-4, 10, 2}, {60, 100, 30}, {-200, 50, 10}, {0, 0, 5}} {
		const steps = 400_000
		top := 20 / math.Sqrt(c.rho)
		sum := 0.0
		for k := range steps {
			l := (float64(k) + 0.5) / steps * top
			sum += math.Exp(l*c.s-l*l*c.v/2) * 2 * math.Sqrt(c.rho/(2*math.Pi)) * math.Exp(-l*l*c.rho/2)
		}
		want := math.Log(sum * top / steps)
		if got := oneSidedLogMixture(c.s, c.v, c.rho); math.Abs(got-want) > 1e-5*max(1, math.Abs(want)) {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
	// It goes on smoothly where the expansion of the tail takes over.
	if a, b := logNormal(-29.9999), logNormal(-30.0001); math.Abs(a-b) > 0.02 {
		t.Errorf("%v and %v", a, b)
	}
}

// TestOneSidedRates simulates means and ratios on the edge of the null, looked
// at after every 100 values from the burn-in on.
func TestOneSidedRates(t *testing.T) {
	const runs, looks, level = 1500, 40, 0.05
	rng := rand.New(rand.NewPCG(5, 1))
	wrong := map[string]int{}
	for range runs {
		var t1 AdjustedMeans
		var t2 [2]AdjustedMeans // strata
		crossed := map[string]bool{}
		look := func(name string, logE float64, err error) {
			if err == nil && logE >= -math.Log(level) {
				crossed[name] = true
			}
		}
		for k := range looks {
			for range 100 {
				for arm := range 2 {
					canary := arm == 1
					// The canary's mean is 0.3 above; gamma(4) values are skewed.
					v := rng.ExpFloat64() + rng.ExpFloat64() + rng.ExpFloat64() + rng.ExpFloat64()
					if canary {
						v += 0.3
					}
					if err := t1.Add(canary, v, 0); err != nil {
						t.Fatal(err)
					}
					// The same ratio, 0.5, in both arms; the canary's users view more.
					views := 1 + float64(rng.IntN(5+2*arm))
					errors := 0.0
					for range int(views) {
						errors += float64(rng.IntN(2))
					}
					// A stratum with twice the errors, of which the canary has more.
					stratum := 0
					if rng.IntN(10) < 2+5*arm {
						stratum, errors = 1, 2*errors
					}
					if err := t2[stratum].Add(canary, errors, views); err != nil {
						t.Fatal(err)
					}
				}
			}
			if k < 4 {
				continue
			}
			e, err := StratifiedEvidence([]AdjustedMeans{t1}, false, Higher, 0.3, 2000)
			look("mean higher", e, err)
			e, err = StratifiedEvidence([]AdjustedMeans{t1}, false, Lower, 0.3, 2000)
			look("mean lower", e, err)
			e, err = StratifiedEvidence(t2[:], true, Higher, 0, 2000)
			look("ratio higher", e, err)
			e, err = StratifiedEvidence(t2[:], true, Lower, 0, 2000)
			look("ratio lower", e, err)
		}
		for name := range crossed {
			wrong[name]++
		}
	}
	for _, name := range []string{"mean higher", "mean lower", "ratio higher", "ratio lower"} {
		rate := float64(wrong[name]) / runs
		t.Logf("%s: %.3f of the runs cross %v", name, rate, level)
		if limit := level + 3*math.Sqrt(level*(1-level)/runs); rate > limit {
			t.Errorf("%s: %.4f of the runs cross, want at most %.4f", name, rate, limit)
		}
	}
}

func TestOneSidedPower(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 2))
	var m, r AdjustedMeans
	if _, err := StratifiedEvidence([]AdjustedMeans{m}, false, Higher, 0, 1000); err == nil {
		t.Error("evidence without values")
	}
	for range 5000 {
		for arm := range 2 {
			x := float64(arm)
			if err := m.Add(arm == 1, rng.ExpFloat64()*(1+0.2*x), 0); err != nil {
				t.Fatal(err)
			}
			views := 1 + float64(rng.IntN(9))
			if err := r.Add(arm == 1, views*(0.5+0.05*x)+rng.NormFloat64(), views); err != nil {
				t.Fatal(err)
			}
		}
	}
	up, err := StratifiedEvidence([]AdjustedMeans{m}, false, Higher, 0, 5000)
	down, err2 := StratifiedEvidence([]AdjustedMeans{m}, false, Lower, 0.5, 5000)
	if err != nil || err2 != nil || up < 10 || down < 10 {
		t.Errorf("a mean that is 0.2 higher: %v above 0, %v below 0.5; %v %v", up, down, err, err2)
	}
	d, _, err := Stratified([]AdjustedMeans{r}, true, 0.05, 5000)
	if err != nil || !(d.Low < 0.05 && d.High > 0.05 && d.Low > 0) {
		t.Errorf("a ratio that is 0.05 higher: %+v, %v", d, err)
	}
}
