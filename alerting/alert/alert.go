// Package alert makes incidents of evaluated objectives, and news of incidents.
//
//  1. [Book.Observe] takes the state of one objective. Each of its alerts is
//     pending while it burns, firing once it has burnt for long enough, and
//     resolved once it has been calm for long enough.
//  2. The alerts that fire for one tenant, objective and group are one incident,
//     of their highest severity.
//  3. [Book.Tell] compares what each target was told with what is so, and puts the
//     difference in the outbox: what was opened, changed, resolved. Silences are
//     heeded here and nowhere else.
//
// Time comes with each call, so that the same evaluations give the same incidents.
package alert

import (
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// Policy says when alerts open and close. The zero value of each field stands for
// its default.
type Policy struct {
	// Clear is the share of its threshold, in (0,1], below which the short window's
	// rate is calm. Default 0.8.
	Clear float64
	// Evaluations is how many in a row must be calm. Default 3.
	Evaluations int
	// KeepFiring is for how long an alert fires at least after it last burned.
	// Default 5 minutes.
	KeepFiring time.Duration
	// Reopen is how long after its end an alert may fire again, and an incident at a
	// severity that is not higher. Default 10 minutes.
	Reopen time.Duration
	// Forget is how long after it last burned an alert ends in any case: where
	// nothing more is counted, nothing says that it is calm. Default 6 hours.
	Forget time.Duration
	// NoData is for how long data must be missing before that is an alert. Default 10
	// minutes.
	NoData time.Duration
	// Group is the least time between two messages on one objective to one target.
	// An opened page, or one that became a page, does not wait. Default 1 minute.
	Group time.Duration
}

func (p Policy) withDefaults() Policy {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	if p.Clear == 0 {
		p.Clear = 0.8
	}
	if p.Evaluations == 0 {
		p.Evaluations = 3
	}
	def(&p.KeepFiring, 5*time.Minute)
	def(&p.Reopen, 10*time.Minute)
	def(&p.Forget, 6*time.Hour)
	def(&p.NoData, 10*time.Minute)
	def(&p.Group, time.Minute)
	return p
}

// Check reports what is wrong with the policy.
func (p Policy) Check() error {
	if p.Clear < 0 || p.Clear > 1 {
		return fmt.Errorf("clear: %v: want more than 0, up to 1", p.Clear)
	}
	if p.Evaluations < 0 || p.Evaluations > 1000 {
		return fmt.Errorf("evaluations: %d: want 1 to 1000", p.Evaluations)
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"keep_firing_for", p.KeepFiring}, {"reopen_after", p.Reopen}, {"forget_after", p.Forget}, {"no_data_after", p.NoData}, {"group_interval", p.Group}} {
		if d.is < 0 || d.is > 7*24*time.Hour {
			return fmt.Errorf("%s: %v: want up to 168h", d.name, d.is)
		}
	}
	return nil
}

// Phase is where an alert stands. The zero value is Idle.
type Phase int

// The phases.
const (
	Idle    Phase = iota // it does not burn, or has ended
	Pending              // it burns, and not yet for long enough
	Firing               // it burns, or has not been calm for long enough
)

var phases = []string{"idle", "pending", "firing"}

// String returns idle, pending or firing.
func (p Phase) String() string { return phases[p] }

// MarshalText writes the name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a name.
func (p *Phase) UnmarshalText(b []byte) error {
	i := slices.Index(phases, string(b))
	if i < 0 {
		return fmt.Errorf("phase %q: want idle, pending or firing", b)
	}
	*p = Phase(i)
	return nil
}

// Alert is one alert of an objective and group.
type Alert struct {
	verdict.Burn           // as it was evaluated last
	Phase        Phase     `json:"phase"`
	Since        time.Time `json:"since"`          // of the phase
	Burned       time.Time `json:"burned"`         // the last time
	Calm         int       `json:"calm,omitempty"` // calm evaluations in a row
	Ended        time.Time `json:"ended"`          // the last time that it fired
}

// Key names an incident: at most one is open for each. It is one of an objective,
// or of a condition of a rollout, which has no SLO and no cohort.
type Key struct {
	Tenant    string `json:"tenant"`
	SLO       string `json:"slo"`
	Cohort    string `json:"cohort,omitempty"`    // value of the objective's group_by; empty: all traffic
	Condition string `json:"condition,omitempty"` // such as [verdict.RollbackIneffective]
	Rollout   string `json:"rollout,omitempty"`
}

// stream names what is told in order: an objective, or one condition.
func (k Key) stream() string {
	if k.Condition != "" {
		return k.Condition + "/" + k.Rollout
	}
	return k.SLO
}

// dedup is the same for all that is told of an incident.
func (k Key) dedup() string {
	if k.Condition != "" {
		return digest(k.Tenant, k.Condition, k.Rollout)
	}
	return digest(k.Tenant, k.SLO, k.Cohort)
}

// Incident is what fires of one objective and group.
type Incident struct {
	Key
	Service      string        `json:"service"`
	App          string        `json:"app"`
	Release      string        `json:"release,omitempty"`  // where the objective is grouped by release, or of a condition
	Number       uint64        `json:"number"`             // of the opening, from 1; 0: it was never open
	Severity     string        `json:"severity,omitempty"` // the highest of what fires; empty: it is not open
	Last         string        `json:"last,omitempty"`     // severity when it was last open
	Opened       time.Time     `json:"opened"`
	Resolved     time.Time     `json:"resolved"` // the last time
	Alerts       []Alert       `json:"alerts"`
	At           time.Time     `json:"at"` // of the newest evaluation
	DataThrough  time.Time     `json:"data_through"`
	Completeness float64       `json:"completeness"`
	Data         verdict.Data  `json:"data"`
	Target       float64       `json:"target"`
	Remaining    verdict.Bound `json:"remaining"` // share of the error budget
	Sentence     string        `json:"sentence"`

	Told  map[string]Told `json:"told,omitempty"`  // by target, while one thinks that it is open
	Ended []Ended         `json:"ended,omitempty"` // what targets that hold state were told, and is over
}

// Told is what a target was told last of an open incident.
type Told struct {
	Number   uint64    `json:"number"`
	Severity string    `json:"severity"`
	Since    time.Time `json:"since"` // from when it is so
	Opened   time.Time `json:"opened"`
	Loud     bool      `json:"loud"` // its end is to be told
}

// Ended is something that a target was told and that is over.
type Ended struct {
	Target   string    `json:"target"`
	Severity string    `json:"severity"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
}

// State is pending, firing or resolved: the highest phase of the incident's
// alerts.
func (in *Incident) State() string {
	switch {
	case in.Severity != "":
		return "firing"
	case slices.ContainsFunc(in.Alerts, func(a Alert) bool { return a.Phase == Pending }):
		return "pending"
	}
	return "resolved"
}

// firing returns the alerts that fire.
func (in *Incident) firing() []Alert {
	var all []Alert
	for _, a := range in.Alerts {
		if a.Phase == Firing {
			all = append(all, a)
		}
	}
	return all
}
