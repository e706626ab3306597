package slo

import (
	"testing"
	"time"
)

// TestReachIsWhatHappens runs each alert of an objective through the book: with even
// traffic, from a time on all of it bad, it begins to burn in the minute that is told.
func TestReachIsWhatHappens(t *testing.T) {
	o := Objective{Name: "o", App: "a", Unit: UnitEvent, Method: Occurrences, Target: 0.99, Window: Window{Count: 30, Unit: "d", Rolling: true}, MinUnits: 10, MinClients: 3}
	o.Alerts = Defaults(o.Target, o.Window.Period(), 0)
	for _, r := range o.Reaches() {
		if r.Alert.Form == FormTrickle {
			if r.Units < 3 || r.Units > 20 || r.Bad < 0.01 || r.Bad > 0.34 {
				t.Errorf("%+v", r)
			}
			continue
		}
		for bad, told := range map[float64]time.Duration{1: r.AllBad, 2 * r.Bad: r.Twice} {
			if told == 0 {
				continue
			}
			minutesOfLong, minutesOfShort := int(r.Alert.Long/time.Minute), int(r.Alert.Short/time.Minute)
			// A window of n minutes of which k had a share bad.
			burns := func(k int) bool {
				share := func(n int) float64 { return bad * float64(min(k, n)) / float64(n) }
				return share(minutesOfLong) >= r.Bad-1e-12 && share(minutesOfShort) >= r.Bad-1e-12
			}
			k := 0
			for !burns(k) {
				k++
			}
			if d := time.Duration(k)*time.Minute - told; d < -time.Second || d > time.Minute {
				t.Errorf("%s, %v bad: burns after %d minutes, told %v", r.Alert.Name, bad, k, told)
			}
		}
		// One unit less is no evidence.
		if !unlikely(r.Units, r.Units, o.unitBudget(), evidenceAlpha) || r.Units > int64(o.MinUnits) && unlikely(r.Units-1, r.Units-1, o.unitBudget(), evidenceAlpha) {
			t.Errorf("%s: %d units", r.Alert.Name, r.Units)
		}
	}
	// 14.4 of 1 % in an hour: all bad for 8 minutes and 38 seconds.
	if r := o.Reaches()[0]; r.Alert.Name != "page-1h" || r.AllBad != 8*time.Minute+38*time.Second || r.Twice != 30*time.Minute || r.Units != 10 {
		t.Errorf("%+v", r)
	}
	o.Target = 0.75
	o.Alerts = Defaults(o.Target, o.Window.Period(), 0)
	if r := o.Reaches()[0]; r.Alert.Form != FormExcess || r.Bad != 0.25 || r.AllBad != 20*time.Minute {
		t.Errorf("%+v", r)
	}
}
