package slo

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// TestSliceAlertsFire has everything bad for long enough: each default alert of an
// objective that budgets slices burns, whatever their length: about when
// [Objective.Reaches] tells, or somewhat later where that is no evidence yet, and in
// each minute after it.
func TestSliceAlertsFire(t *testing.T) {
	for _, method := range []string{Timeslices, RatioTimeslices} {
		for _, slice := range []time.Duration{time.Minute, 7 * time.Minute, 24 * time.Hour} {
			for _, target := range []float64{0.5, 0.99} {
				o := testObjective(target)
				o.Method, o.SliceTarget, o.Slice, o.Window.Count = method, 0.95, slice, 28
				o.Alerts = Defaults(target, o.Window.Period(), slice)
				if len(o.Alerts) != 5 {
					t.Fatalf("%s of %v at %v: %d alerts", method, slice, target, len(o.Alerts))
				}
				last, first := time.Duration(0), map[string]time.Duration{}
				for _, r := range o.Reaches() {
					if r.Alert.Form == FormExcess || r.Alert.Severity == verdict.SeverityPage && r.Alert.Form == FormBurn && r.Alert.Threshold < 1 {
						t.Errorf("%s of %v at %v: %+v", method, slice, target, r.Alert)
					}
					last = max(last, r.AllBad)
				}
				c := newClient(o)
				// Bad from a time at which a slice begins.
				broken := start + 4*1440
				broken += mod(-broken, minutes(slice))
				for m := start; m < broken+minutes(last+last/4)+2*minutes(slice)+60; m++ {
					for range 4 {
						c.see(m, m >= broken)
					}
					c.Advance(int64(m+1) * 60_000)
					// Each third minute comes by all minutes of a slice of 7 in turn.
					if m < broken || m%3 != 0 {
						continue
					}
					if err := c.Evaluate("t", Question{At: int64(m+1) * 60_000}, func(s *verdict.SLOState) {
						for _, a := range s.Alerts {
							since, burns := first[a.Name]
							switch {
							case a.Burning && !burns:
								first[a.Name] = time.Duration(m+1-broken) * time.Minute
							case burns && !a.Burning:
								t.Fatalf("%s of %v at %v: %s burnt after %v and does not at minute %d: rates %v and %v of %v", method, slice, target, a.Name, since, m+1-broken, a.LongRate, a.ShortRate, a.Threshold)
							}
						}
					}); err != nil {
						t.Fatal(err)
					}
				}
				for _, r := range o.Reaches() {
					switch at := first[r.Alert.Name]; {
					case at == 0:
						t.Errorf("%s of %v at %v: %s never burns", method, slice, target, r.Alert.Name)
					case r.Alert.Form != FormTrickle && (at < r.AllBad-slice || at > r.AllBad+r.AllBad/4+slice+time.Hour):
						t.Errorf("%s of %v at %v: %s burns after %v, told %v", method, slice, target, r.Alert.Name, at, r.AllBad)
					}
				}
			}
		}
	}
}

// TestSlicesAsPlanned spends the budget of a loose target just as planned, one slice
// of ten: nobody is paged for it.
func TestSlicesAsPlanned(t *testing.T) {
	o := testObjective(0.9)
	o.Method, o.SliceTarget, o.Slice, o.Window.Count = Timeslices, 0.95, 5*time.Minute, 28
	o.Alerts = Defaults(o.Target, o.Window.Period(), o.Slice)
	c := newClient(o)
	bad := 0
	for m := start; m < start+2*1440; m++ {
		for i := range 10 {
			c.see(m, m/5%10 == 0 && i < 2)
		}
		c.Advance(int64(m+1) * 60_000)
		if err := c.Evaluate("t", Question{At: int64(m+1) * 60_000}, func(s *verdict.SLOState) {
			bad = int(s.Budget.Bad)
			if m > start+360 && s.Incident != nil && s.Incident.Severity == verdict.SeverityPage {
				t.Fatalf("minute %d: %v: %+v", m-start, s.Incident.Alerts, s.Alerts)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if bad < 57 || bad > 58 {
		t.Errorf("%d slices are bad", bad)
	}
}

// TestDefaultPages has no default page that burns below one budget, and no window
// longer than the objective's own, however short that is.
func TestDefaultPages(t *testing.T) {
	for _, period := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 8 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 28 * 24 * time.Hour, 366 * 24 * time.Hour} {
		for _, a := range Defaults(0.99, period, 0) {
			if a.Severity == verdict.SeverityPage && a.Form == FormBurn && a.Threshold < 1 || a.Long > period || a.Short > a.Long || a.Form != FormTrickle && a.Short < time.Minute {
				t.Errorf("%v: %+v", period, a)
			}
		}
	}
}

// fastest evaluates the book at the end of a minute, and reports whether the fastest of
// the default alerts burns.
func (c *client) fastest(t *testing.T, at int32) (burning bool) {
	t.Helper()
	c.Advance(int64(at+1) * 60_000)
	if err := c.Evaluate("t", Question{At: int64(at+1) * 60_000}, func(s *verdict.SLOState) { burning = s.Alerts[0].Burning }); err != nil {
		t.Fatal(err)
	}
	return burning
}

// TestSlicesBadByTurns has every other slice fail by a little more than it may: half
// of the slices are bad, 50 times what is planned, and fewer of all units than a good
// slice may have. That pages; as many bad units spread evenly leave all slices good.
func TestSlicesBadByTurns(t *testing.T) {
	for _, turns := range []bool{true, false} {
		o := testObjective(0.99)
		o.Method, o.SliceTarget, o.Slice, o.Window.Count = Timeslices, 0.95, time.Minute, 28
		o.Alerts = Defaults(o.Target, o.Window.Period(), o.Slice)
		c := newClient(o)
		paged := false
		for m := start; m < start+240; m++ {
			for i := range 400 {
				c.see(m, turns && m%2 == 0 && i%12 == 0 || !turns && i%24 == 0)
			}
			paged = c.fastest(t, m) || paged
		}
		if paged != turns {
			t.Errorf("by turns %v: paged %v", turns, paged)
		}
	}
}

// TestSlicesByChance has slices that are bad by chance alone, each unit bad just as
// often as a good slice allows: many slices are bad, and that is evidence in none of
// 21,900 hours.
func TestSlicesByChance(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	found := 0
	for range 21_900 {
		c := sliceCounts{total: 60}
		for range 60 {
			n, bad := int64(8), int64(0)
			for range n {
				if r.IntN(20) == 0 {
					bad++
				}
			}
			if float64(bad) > 0.05*float64(n) {
				c.bad++
				c.failed = c.failed.plus(Counts{n, bad, bad})
			}
		}
		if surprise(c.failed.Total, c.failed.Capped, 0.05) > logChoose(c.total, c.bad)+math.Log(60)-math.Log(evidenceAlpha) {
			found++
		}
	}
	if found > 0 {
		t.Errorf("%d times", found)
	}
}

// TestSliceSums holds what is kept from evaluation to evaluation against what a group
// that keeps nothing says, over random histories with late units, units that move away,
// minutes that are forgotten, windows of all lengths and objectives that are changed.
func TestSliceSums(t *testing.T) {
	asked, reused := 0, 0
	for h := range 200 {
		r := rand.New(rand.NewPCG(uint64(h), 21))
		o := testObjective(0.9)
		o.SliceTarget = 0.8
		step := []int32{1, 2, 7, 60, 1440}[r.IntN(5)]
		phase := int32(r.IntN(3)) * 5
		var g Group
		now := start
		for range 120 {
			now += int32(r.IntN(int(step) * 12))
			for range r.IntN(20) {
				at := now - int32(r.ExpFloat64()*float64(r.IntN(int(step)*20)+1))
				c := Counts{Total: int64(r.IntN(5)), Bad: int64(r.IntN(2))}
				switch at = max(at, g.Units.Cut); {
				case c.Bad > c.Total:
				case c.Bad == 1 && r.IntN(3) == 0 && g.Units.Sum(at, at+1).Total > 0: // it fails, elsewhere
					g.Units.Add(at, Counts{Total: -1})
					g.Units.Add(now, Counts{1, 1, 1})
				default:
					g.Units.Add(at, c)
				}
			}
			if r.IntN(10) == 0 {
				g.Units.Compact(now-400*step, now-500*step)
			}
			if r.IntN(30) == 0 {
				o.SliceTarget = r.Float64()
			}
			for range 3 {
				from := max(now-int32(r.IntN(300*int(step))), g.Units.Cut)
				to := from + int32(r.IntN(int(now+step-from)))
				kept := len(g.slices.sums)
				fresh := Group{Units: Series{Cut: g.Units.Cut, Base: g.Units.Base, Coarse: g.Units.Coarse, Fine: g.Units.Fine}}
				got, want := g.sliced(&o, step, phase, from, to), fresh.sliced(&o, step, phase, from, to)
				if got != want {
					t.Fatalf("history %d, slices of %d in [%d, %d): %+v, want %+v", h, step, from, to, got, want)
				}
				asked++
				if kept > 1 && len(g.slices.sums) >= kept {
					reused++
				}
			}
		}
	}
	if reused < asked/4 {
		t.Errorf("of %d windows %d found sums: nothing is shown", asked, reused)
	}
}

// TestQuietSlicesCount has most slices hold one unit, which is bad, and a few hold
// thousands, which are good: of RatioTimeslices they weigh the same, so that the budget
// burns, and though few of all units are bad that is evidence.
func TestQuietSlicesCount(t *testing.T) {
	for _, broken := range []bool{true, false} {
		o := testObjective(0.99)
		o.Method, o.Slice, o.Window.Count = RatioTimeslices, time.Minute, 28
		o.Alerts = Defaults(o.Target, o.Window.Period(), o.Slice)
		c := newClient(o)
		r := rand.New(rand.NewPCG(2, 2))
		paged := false
		for m := start; m < start+180; m++ {
			if m%6 == 0 {
				for range 3000 {
					c.see(m, false)
				}
			} else {
				c.see(m, broken && r.IntN(4) > 0 || r.IntN(100) == 0)
			}
			paged = c.fastest(t, m) || paged
		}
		if paged != broken {
			t.Errorf("broken %v: paged %v", broken, paged)
		}
	}
}

// TestSharesByChance asks for evidence in windows of slices of very different sizes
// whose units are bad just as often as they may be: it is found no more often than its
// bound says, at a level at which chance finds some.
func TestSharesByChance(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	const runs, alpha, p = 20_000, 0.01, 0.02
	found := 0
	for range runs {
		e := sliceShares{by: map[int64]int64{}}
		for range 60 {
			n, bad := []int64{1, 2, 5, 19, 63}[r.IntN(5)], int64(0)
			for range n {
				if r.Float64() < p {
					bad++
				}
			}
			e.add(Counts{n, bad, bad})
		}
		if e.surprise(p) > -math.Log(alpha) {
			found++
		}
	}
	t.Logf("%d of %d", found, runs)
	if found == 0 || found > runs*alpha {
		t.Errorf("found in %d of %d: want some, and at most %v", found, runs, runs*alpha)
	}
	// With slices of one size the bound is that of their units together.
	e := sliceShares{by: map[int64]int64{}}
	for k := range int64(60) {
		e.add(Counts{8, k % 3, k % 3})
	}
	if got, want := e.surprise(p), surprise(480, 60, p); math.Abs(got-want) > 1e-6 {
		t.Errorf("surprise %v, want %v", got, want)
	}
}
