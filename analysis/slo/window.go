package slo

import (
	"fmt"
	"time"
	_ "time/tzdata" // zones must be known where the machine has none
)

// Window is the time that an error budget is for.
type Window struct {
	Count   int    `json:"count"` // 1 or more
	Unit    string `json:"unit"`  // m, h, d, w, M, Q or Y
	Rolling bool   `json:"rolling"`
	// Of a calendar window: the start of one of its periods in local time, as
	// time.DateTime, on a quarter of an hour, and the zone.
	Start string `json:"start,omitempty"`
	Zone  string `json:"zone,omitempty"`
}

// String returns the window as a person says it.
func (w Window) String() string {
	if w.Rolling {
		return fmt.Sprintf("rolling %d%s", w.Count, w.Unit)
	}
	return fmt.Sprintf("%d%s from %s %s", w.Count, w.Unit, w.Start, w.Zone)
}

// Period returns the window's length; of a month, a quarter and a year the 30, 90
// and 365 days that OpenSLO's Go SDK takes them for.
func (w Window) Period() time.Duration {
	const day = 24 * time.Hour
	unit := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day, "M": 30 * day, "Q": 90 * day, "Y": 365 * day}[w.Unit]
	return time.Duration(w.Count) * unit
}

// Bounds returns the window that an instant is in: of a rolling one the period
// that ends there; of a calendar one the period of local time that holds it, whose
// days, weeks and longer units follow the zone's clock: a day with a change of the
// clock has 23 or 25 hours. A period of months that starts on a day that a month
// does not have starts on its last one.
func (w Window) Bounds(at time.Time) (from, to time.Time, err error) {
	if w.Rolling {
		return at.Add(-w.Period()), at, nil
	}
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return from, to, fmt.Errorf("window: zone: %w", err)
	}
	anchor, err := time.ParseInLocation(time.DateTime, w.Start, zone)
	if err != nil {
		return from, to, fmt.Errorf("window: start: %w", err)
	}
	// A guess from the period's usual length, and steps from there.
	k := int(at.Sub(anchor) / w.Period())
	for w.period(anchor, k).After(at) {
		k--
	}
	for !w.period(anchor, k+1).After(at) {
		k++
	}
	return w.period(anchor, k), w.period(anchor, k+1), nil
}

// period returns the start of the k-th period from the anchor, which is the 0th.
func (w Window) period(anchor time.Time, k int) time.Time {
	n := k * w.Count
	switch w.Unit {
	case "m":
		return anchor.Add(time.Duration(n) * time.Minute)
	case "h":
		return anchor.Add(time.Duration(n) * time.Hour)
	case "d":
		return anchor.AddDate(0, 0, n)
	case "w":
		return anchor.AddDate(0, 0, 7*n)
	case "Q":
		n *= 3
	case "Y":
		n *= 12
	}
	y, m, d := anchor.Date()
	first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, anchor.Location())
	last := time.Date(first.Year(), first.Month()+1, 0, 0, 0, 0, 0, anchor.Location()).Day()
	hour, minute, second := anchor.Clock()
	return time.Date(first.Year(), first.Month(), min(d, last), hour, minute, second, 0, anchor.Location())
}
