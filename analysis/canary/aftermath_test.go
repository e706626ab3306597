package canary

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// wake is a rollout that is rolled back after an hour, and what its app's sessions
// do: perMinute of them start, and share(m) of them on the canary m minutes after
// the delivery (before it: negative).
type wake struct {
	perMinute float64
	share     func(m int) float64
}

// follow simulates minutes after the delivery and returns those in which the
// rollback was called ineffective.
func (w wake) follow(t *testing.T, seed uint64, minutes int) (ineffective []int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	r := Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1", Stages: []Stage{{Weight: 0.1}}}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	const began = int64(29_400_000) // minutes since 1970
	test := NewTest("t", r, began*60_000)
	was := false
	for m := -60; m < minutes; m++ {
		now := (began + 60 + int64(m)) * 60_000
		if m == 0 {
			test.Deliver(now)
		}
		for range poisson(rng, w.perMinute) {
			at := now + rng.Int64N(60_000)
			late := int64(0)
			if rng.IntN(20) == 0 {
				late = rng.Int64N(20 * 60_000) // from a queue that was offline
			}
			test.start(at, at+late, rng.Float64() < w.share(m))
		}
		a := test.Aftermath(Question{At: now + 60_000}, was)
		if m < 0 {
			if a != nil {
				t.Fatalf("an aftermath before the delivery: %+v", a)
			}
			continue
		}
		if was = a.Ineffective; was {
			ineffective = append(ineffective, m)
		}
	}
	return ineffective
}

// poisson draws by Knuth's product, which is good for means of some hundreds.
func poisson(rng *rand.Rand, mean float64) (n int) {
	for p := rng.Float64(); p > math.Exp(-mean); n++ {
		p *= rng.Float64()
	}
	return n
}

// TestIneffective has rollbacks that change nothing, at apps of several sizes. What
// each needs is by simulation.
func TestIneffective(t *testing.T) {
	for name, c := range map[string]struct {
		perMinute, share float64
		by               int // minutes after the delivery in nine of ten
	}{
		"busy, a tenth": {100, 0.1, 30}, "busy, a fiftieth": {300, 0.02, 60}, "small, a half": {5, 0.5, 75},
	} {
		var late int
		const runs = 10
		for seed := range uint64(runs) {
			got := wake{c.perMinute, func(int) float64 { return c.share }}.follow(t, seed, c.by+1)
			if len(got) == 0 || got[0] > c.by {
				late++
			}
			if len(got) > 0 && got[0] < 10 {
				t.Errorf("%s: told after %d minutes, before it had its time", name, got[0])
			}
		}
		if late > runs/10 {
			t.Errorf("%s: %d of %d not told within %d minutes", name, late, runs, c.by)
		}
	}
}

// TestEffective has rollbacks that take effect, with what is left of old pages: for a
// day nobody is told.
func TestEffective(t *testing.T) {
	for name, share := range map[string]func(m int) float64{
		"at once": func(m int) float64 {
			if m < 0 {
				return 0.1
			}
			return 0
		},
		"a service worker keeps a quarter for hours": func(m int) float64 {
			if m < 0 {
				return 0.1
			}
			return 0.025 * math.Exp(-float64(m)/300)
		},
		"halved after five minutes": func(m int) float64 { return 0.1 * math.Exp(-max(float64(m), 0)/7) },
	} {
		for seed := range uint64(2) {
			if got := (wake{60, share}).follow(t, seed, 1440); len(got) > 0 {
				t.Errorf("%s, seed %d: told in minutes %v", name, seed, got)
			}
		}
	}
	// The boundary itself: days at just a half.
	wrong := 0
	const days = 10
	for seed := range uint64(days) {
		half := func(m int) float64 {
			if m < 0 {
				return 0.1
			}
			return 0.05
		}
		if len(wake{60, half}.follow(t, seed, 1440)) > 0 {
			wrong++
		}
	}
	if wrong > 2 { // at most 4 % of days: more than 2 of 10 have a chance of 0.6 %
		t.Errorf("told on %d of %d days of a share that was halved", wrong, days)
	}
}

// TestIneffectiveEnds has the rollback take effect late.
func TestIneffectiveEnds(t *testing.T) {
	got := wake{200, func(m int) float64 {
		if m < 40 {
			return 0.1
		}
		return 0.004
	}}.follow(t, 1, 120)
	if len(got) == 0 || got[len(got)-1] < 40 || got[len(got)-1] > 50 {
		t.Errorf("told in minutes %v, want until 40 to 50", got)
	}
	// It takes effect, and is undone hours later.
	got = wake{200, func(m int) float64 {
		if m >= 0 && m < 300 {
			return 0
		}
		return 0.1
	}}.follow(t, 2, 400)
	if len(got) == 0 || got[0] < 300 || got[0] > 320 {
		t.Errorf("undone after 300 minutes, told in %v", got)
	}
}

// TestAftermathUnknown has too little to compare with, and no traffic.
func TestAftermathUnknown(t *testing.T) {
	r := Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1", Stages: []Stage{{Weight: 0.1}}}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	const began = int64(1_764_000_000_000)
	test := NewTest("t", r, began)
	test.start(began+60_000, began+60_000, true)
	test.Deliver(began + 5*60_000)
	test.Deliver(began + 50*60_000) // the first one counts
	for range 100 {
		test.start(began+20*60_000, began+20*60_000, true)
	}
	a := test.Aftermath(Question{At: began + 25*60_000}, false)
	if a.Ineffective || !math.IsNaN(float64(a.LogE)) || a.Begins.Sub(a.Delivered) != 10*time.Minute || a.After.Canary != 100 {
		t.Errorf("%+v", a)
	}
	test.Reference = verdict.Starts{All: 1000, Canary: 100}
	if a = test.Aftermath(Question{At: began + 25*60_000}, false); !a.Ineffective {
		t.Errorf("%+v", a)
	}
	if a = test.Aftermath(Question{At: began + 60*60_000}, true); a.Ineffective {
		t.Errorf("no traffic at all, and still: %+v", a)
	}
	if test.Withdraw(); test.Aftermath(Question{At: began + 25*60_000}, true) != nil {
		t.Error("withdrawn, and there")
	}
}
