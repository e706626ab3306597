package slo

import (
	"math"
	"time"
)

// Reach is when an alert burns, as its objective's file says it: known before any
// unit was counted.
type Reach struct {
	Alert Alert
	// Bad is the share of bad units, in both windows, from which it burns; of an
	// excess alert what comes on top of the usual share. Of the trickle alert: the share
	// that is still tolerable.
	Bad float64
	// AllBad is how long it takes from when all is bad, after a time in which nothing
	// was, with even traffic; Twice likewise from when twice Bad is. Both count the alert's
	// After, and neither the minute until the next evaluation. 0 of the trickle alert, which
	// goes by units; and Twice where more than all would be bad.
	AllBad, Twice time.Duration
	// Units is the least number of units, all bad, that are evidence.
	Units int64
}

// Reaches returns what the objective's alerts reach, in their order.
func (o *Objective) Reaches() []Reach {
	var all []Reach
	for _, a := range o.Alerts {
		r := Reach{Alert: a}
		if a.Form == FormTrickle {
			r.Bad = o.trickleRate()
			var d Detector
			for d.logE() < logAlarm {
				d.look(1, 1, r.Bad)
				r.Units++
			}
			r.Units = max(r.Units, int64(o.MinClients))
			all = append(all, r)
			continue
		}
		r.Bad = a.Threshold * o.Budget()
		room := 1.0
		if a.Form == FormExcess {
			room -= o.Budget() // the usual, if the budget is spent as planned
		}
		after := func(bad float64) time.Duration {
			d := time.Duration(float64(a.Long) * r.Bad / bad).Round(time.Second)
			if o.Method != Occurrences { // a slice is told of when it is over
				d = (d + o.Slice - 1) / o.Slice * o.Slice
			}
			return d + a.After
		}
		r.AllBad = after(room)
		if 2*r.Bad <= room {
			r.Twice = after(2 * r.Bad)
		}
		r.Units = o.Evidence()
		all = append(all, r)
	}
	return all
}

// Evidence returns the least number of units, all bad, that are evidence for an
// alert that burns: n bad ones of n have a chance of null^n.
func (o *Objective) Evidence() int64 {
	return max(int64(math.Floor(math.Log(evidenceAlpha)/math.Log(min(o.unitBudget(), mostNull))))+1, o.MinUnits, int64(o.MinClients), 1)
}
