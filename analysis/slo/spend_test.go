package slo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/internal/event"
)

// TestSpendLevel counts rollouts whose spending is at some look taken to be over a
// limit that the truth is at, for an hour-by-hour look over four days.
func TestSpendLevel(t *testing.T) {
	const rollouts, looks, alpha = 120, 96, 0.05
	over, covered := 0, 0
	for seed := range uint64(rollouts) {
		rng := rand.New(rand.NewPCG(seed, 4))
		o := Objective{Name: "errors", App: "shop", Tenancy: "production", Unit: UnitSession, Method: Occurrences, Target: 0.99, Window: Window{Count: 28, Unit: "d", Rolling: true}}
		b := NewBook(o, 0)
		const p0, extra = 0.02, 0.01 // of the baseline, and what the canary fails more
		cohorts := map[string]*Cohort{}
		for _, arm := range []string{"baseline", "canary"} {
			for _, stratum := range []string{"mobile", "desktop"} {
				c := &Cohort{Release: arm, Arms: "flag/x=" + arm, Stratum: stratum}
				cohorts[arm+stratum] = c
				b.Cohorts = append(b.Cohorts, c)
			}
		}
		r := Rollout{Change: "flag/x", Canary: "canary", Baseline: "baseline", Arm: func(arms []event.Arm, _ event.Release) (bool, bool) { return arms[0].Variant == "canary", true }}
		crossed, last := false, 0.0
		truth := 0.0
		for hour := range int32(looks) {
			at := hour * 60
			for name, n := range map[string]int{"baselinemobile": 200, "canarymobile": 60, "baselinedesktop": 300, "canarydesktop": 30} {
				p := p0
				if name[0] == 'c' {
					p += extra
					truth += extra * float64(n)
				}
				bad := int64(0)
				for range n {
					if rng.Float64() < p {
						bad++
					}
				}
				c := Counts{Total: int64(n), Bad: bad, Capped: bad}
				cohorts[name].Units.Add(at, c)
				b.All.Units.Add(at, c)
			}
			s := b.Spend(r, 0.1, alpha, Question{At: int64(at+60) * 60_000})
			crossed = crossed || s.Refused == "" && float64(s.Lo) > truth
			last = float64(s.Excess) - truth
			if hour == looks-1 && float64(s.Lo) <= truth && truth <= float64(s.Hi) {
				covered++
			}
		}
		if crossed {
			over++
		}
		if math.Abs(last) > 200 {
			t.Errorf("seed %d: off by %v", seed, last)
		}
	}
	// One-sided at alpha: 120 rollouts at 5 % are 6, and 3 standard deviations more.
	if over > 13 {
		t.Errorf("%d of %d rollouts were taken to be over what they spent, at level %v", over, rollouts, alpha)
	}
	if covered < rollouts*9/10 {
		t.Errorf("%d of %d intervals hold the truth", covered, rollouts)
	}
	t.Logf("%d of %d over, %d covered", over, rollouts, covered)
}

func TestSpendIsRefused(t *testing.T) {
	o := Objective{Name: "errors", App: "shop", Tenancy: "production", Unit: UnitSession, Method: Occurrences, Target: 0.99, Window: Window{Count: 28, Unit: "d", Rolling: true}}
	b := NewBook(o, 1000*60_000)
	all := func([]event.Arm, event.Release) (bool, bool) { return true, true }
	r := Rollout{Change: "flag/x", Canary: "on", Baseline: "off", Since: 1000 * 60_000, Arm: all}
	for name, c := range map[string]struct {
		minutes int32
		bad     int64
		want    string
	}{
		"young":  {30, 100, "30 minutes of the objective are known: at least 60 are needed to tell a window's budget"},
		"scarce": {90, 7, "7 bad units on the canary: at least 30 are needed"},
	} {
		b.Cohorts = []*Cohort{{Release: "on", Arms: "flag/x=on"}}
		b.Cohorts[0].Units.Add(1005, Counts{Total: 500, Bad: c.bad})
		s := b.Spend(r, 0.1, 0.001, Question{At: int64(1000+c.minutes) * int64(time.Minute/time.Millisecond)})
		if s.Refused != c.want || !math.IsNaN(float64(s.Excess)) || s.Bad != c.bad {
			t.Errorf("%s: %s", name, fmt.Sprintf("%+v", s))
		}
	}
}
