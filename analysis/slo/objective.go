// Package slo evaluates service level objectives: it counts what is good and bad
// from the rows that verdicts rest on, and says how fast an error budget burns,
// what is left of it, and who spent it.
//
// Nothing here reads a clock: time comes with the rows and with the question, so
// that the same logs give the same answers. Counts are integers, by the minute of
// the events' own time.
package slo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The units that an objective counts.
const (
	UnitEvent   = "event"   // each event
	UnitSession = "session" // a session once: where it first failed, or where it was first seen while it has not
	UnitUser    = "user"    // a user likewise, once within [UserTTL]; a session where it names none
)

// The budgeting methods of OpenSLO.
const (
	Occurrences     = "Occurrences"     // the share of good units
	Timeslices      = "Timeslices"      // the share of slices of time that were good; one without units is good
	RatioTimeslices = "RatioTimeslices" // the mean over slices of the share of good units; those without units are left out
)

// Objective is one objective as it is evaluated. It is recorded in the control
// log as a whole; [openslo.Compile] makes it, and checks it. Durations are in ns.
type Objective struct {
	Name        string              `json:"name"` // unique within the tenant
	Service     string              `json:"service"`
	DisplayName string              `json:"display_name,omitempty"`
	Description string              `json:"description,omitempty"`
	Labels      map[string][]string `json:"labels,omitempty"`
	Annotations map[string]string   `json:"annotations,omitempty"`

	App     string   `json:"app"`
	Tenancy string   `json:"tenancy"` // whose traffic counts
	Unit    string   `json:"unit"`
	Total   Selector `json:"total"`
	// One of these says which of the total are good.
	Good      *Selector  `json:"good,omitempty"`
	Bad       *Selector  `json:"bad,omitempty"`
	Threshold *Threshold `json:"threshold,omitempty"`

	Method      string        `json:"method"`
	Target      float64       `json:"target"`                 // in [0,1)
	SliceTarget float64       `json:"slice_target,omitempty"` // of Timeslices: share of good units, in (0,1], that makes a slice good
	Slice       time.Duration `json:"slice,omitempty"`        // length of a slice: whole minutes
	Window      Window        `json:"window"`

	Alerts     []Alert       `json:"alerts,omitempty"`
	GroupBy    string        `json:"group_by,omitempty"` // column whose values are evaluated each for itself too
	Strata     []string      `json:"strata,omitempty"`   // columns by whose values like is compared with like
	MinUnits   int64         `json:"min_units"`          // in an alert's long window
	MinClients int           `json:"min_clients"`        // sessions with something bad in an alert's long window; users where those are the unit
	Lateness   time.Duration `json:"lateness"`           // what comes later is a restatement
	Policy     []Rule        `json:"policy,omitempty"`   // from the least remaining budget up
}

// Alert is one alert of an objective.
type Alert struct {
	Name      string        `json:"name"`
	Severity  string        `json:"severity"`
	Form      string        `json:"form"`
	Threshold float64       `json:"threshold"` // in budgets per window
	Long      time.Duration `json:"long"`
	Short     time.Duration `json:"short"`
	After     time.Duration `json:"after,omitempty"`
	Targets   []string      `json:"targets,omitempty"`
	// What is told of it; an alert that tells nothing of a breach makes no incident.
	WhenBreaching bool `json:"when_breaching,omitempty"`
	WhenResolved  bool `json:"when_resolved,omitempty"`
	WhenNoData    bool `json:"when_no_data,omitempty"`
}

// The forms of alerts.
const (
	// FormBurn burns while the bad rates of both windows are at least Threshold
	// times the budget's (Google's SRE workbook, chapter 5).
	FormBurn = "burn"
	// FormExcess burns while both bad rates exceed what is usual at that hour of
	// the week by at least Threshold times the budget's. It is for loose targets,
	// whose budget cannot burn fast.
	FormExcess = "excess"
	// FormTrickle burns while a sequential test says that the service fails for
	// good. It needs evidence and no volume.
	FormTrickle = "trickle"
)

// Rule says what a pipeline may do once no more than Remaining of the budget is
// left.
type Rule struct {
	Remaining float64        `json:"remaining"` // share of the budget; may be negative
	Action    verdict.Action `json:"action"`
}

// Digest identifies an objective: 12 hex digits of the SHA-256 of its JSON.
func (o *Objective) Digest() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic("BUG: an objective that is not JSON: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// counted is the part of an objective that its counts depend on.
func (o *Objective) counted() string {
	b, err := json.Marshal([]any{o.App, o.Tenancy, o.Unit, o.Total, o.Good, o.Bad, o.Threshold, o.Method, o.Slice, o.Window, o.GroupBy, o.Strata})
	if err != nil {
		panic("BUG: an objective that is not JSON: " + err.Error())
	}
	return string(b)
}

// Budget returns the share of units that may be bad.
func (o *Objective) Budget() float64 { return 1 - o.Target }

// MaxBurn is the fastest that a budget can burn, in budgets per window: with
// everything bad. It bounds the threshold of any burn alert.
func MaxBurn(target float64) float64 { return 1 / (1 - target) }

// Feasibility says whether a burn alert can fire.
type Feasibility int

// What an alert can be.
const (
	Feasible   Feasibility = iota
	Strained               // it fires only when more than half of all is bad
	Infeasible             // it can never fire
)

// CanFire says whether an alert at a threshold can fire under a target. The rate
// that fires is threshold x (1-target) of a burn; an excess comes on top of a
// budget that is being spent as planned.
func CanFire(form string, threshold, target float64) Feasibility {
	rate := threshold * (1 - target)
	if form == FormExcess {
		rate += 1 - target
	}
	switch {
	case rate >= 1:
		return Infeasible
	case rate > 0.5:
		return Strained
	}
	return Feasible
}

// workbook are the alerts that Google's SRE workbook recommends (chapter 5,
// "Alerting on SLOs"), as shares of the budget that are spent in a window, with
// the row of a day that Sloth and Grafana add.
var workbook = []struct {
	name, severity string
	spent          float64
	long, short    time.Duration
}{
	{"page-1h", verdict.SeverityPage, 0.02, time.Hour, 5 * time.Minute},
	{"page-6h", verdict.SeverityPage, 0.05, 6 * time.Hour, 30 * time.Minute},
	{"ticket-1d", verdict.SeverityTicket, 0.1, 24 * time.Hour, 2 * time.Hour},
	{"ticket-3d", verdict.SeverityTicket, 0.1, 72 * time.Hour, 6 * time.Hour},
}

// Factor is the burn rate at which a share of the budget is spent in a window:
// share x period / window.
func Factor(share float64, period, window time.Duration) float64 {
	return share * float64(period) / float64(window)
}

// shortPeriod is the period below which the windows of the workbook's alerts are
// too long to warn in time.
const shortPeriod = 14 * 24 * time.Hour

// Defaults are the alerts of an objective that names none: the workbook's, with
// factors for its period, and windows too where that is shorter than 14 days. A
// row that could fire only when more than half of everything is bad is an excess
// alert in its place: a page at one budget, a ticket at a half. No page burns below
// one budget, at which the budget lasts for its window. The last one is [Trickle].
//
// Of an objective that budgets slices of time their length is given; it is 0 else. No
// window is shorter than a slice. Of slices it is not known what is usual: a row that
// could fire only when more than half of them are bad burns from half of them on in
// its place.
func Defaults(target float64, period, slice time.Duration) []Alert {
	var all []Alert
	for _, w := range workbook {
		long, short := w.long, w.short
		if period < shortPeriod {
			scale := float64(period) / float64(28*24*time.Hour)
			long = max(time.Duration(float64(long)*scale).Round(time.Minute), 10*time.Minute)
			short = max(time.Duration(float64(short)*scale).Round(time.Minute), time.Minute)
		}
		long, short = min(max(long, slice), period), min(max(short, slice), period)
		a := Alert{Name: w.name, Severity: w.severity, Form: FormBurn, Threshold: Factor(w.spent, period, long), Long: long, Short: short,
			WhenBreaching: true, WhenResolved: true}
		least := 0.0
		if w.severity == verdict.SeverityPage {
			least = 1
			a.Threshold = max(a.Threshold, least)
		}
		switch {
		case CanFire(FormBurn, a.Threshold, target) == Feasible:
		case slice > 0:
			if a.Threshold = MaxBurn(target) / 2; a.Threshold < max(least, 0.5) {
				continue
			}
		default:
			a.Form, a.Threshold = FormExcess, max(least, 0.5)
			if CanFire(FormExcess, a.Threshold, target) == Infeasible {
				continue // a target below one half leaves no room for any
			}
		}
		all = append(all, a)
	}
	return append(all, Trickle())
}

// Trickle is the alert that pages for a small service that fails for good.
func Trickle() Alert {
	return Alert{Name: FormTrickle, Severity: verdict.SeverityPage, Form: FormTrickle, WhenBreaching: true, WhenResolved: true}
}

// trickleRate is the bad rate that the trickle alert takes for tolerable: that of
// the fastest page, but at most a third of the way from the budget to all being
// bad.
func (o *Objective) trickleRate() float64 {
	b := o.unitBudget()
	rate := b + (1-b)/3
	for _, a := range o.Alerts {
		if a.Form == FormBurn && a.Severity == verdict.SeverityPage {
			rate = min(rate, max(b, a.Threshold*b))
		}
	}
	return min(max(rate, 1e-6), 0.99)
}

// unitBudget is the share of units that may be bad: with timeslices that of a good
// slice.
func (o *Objective) unitBudget() float64 {
	if o.Method == Timeslices {
		return 1 - o.SliceTarget
	}
	return o.Budget()
}

// longest is the longest window of an alert, at least an hour.
func (o *Objective) longest() time.Duration {
	long := time.Hour
	for _, a := range o.Alerts {
		long = max(long, a.Long)
	}
	return long
}

// usual reports whether any alert asks what is usual.
func (o *Objective) usual() bool {
	return slices.ContainsFunc(o.Alerts, func(a Alert) bool { return a.Form == FormExcess })
}

// allowed returns how many of a total may be bad.
func (o *Objective) allowed(total int64) float64 { return o.Budget() * float64(total) }

// remaining returns what is left of a budget as a share of it; with none it is 0
// while nothing is bad. A budget of nothing is not known.
func remaining(bad, allowed float64) verdict.Bound {
	switch {
	case allowed > 0:
		return verdict.Bound(1 - bad/allowed)
	case bad > 0:
		return verdict.Bound(math.Inf(-1))
	}
	return verdict.Unknown
}
