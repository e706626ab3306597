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
			c.Advance(int64(m+1) * 60_000)
			if err := c.Evaluate("t", Question{At: int64(m+1) * 60_000}, func(s *verdict.SLOState) {
				paged = paged || s.Alerts[0].Burning
			}); err != nil {
				t.Fatal(err)
			}
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
