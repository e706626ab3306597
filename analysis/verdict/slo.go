package verdict

import (
	"fmt"
	"slices"
	"time"
)

// What the analysis hands out on service level objectives. Alerting reads
// [SLOState] and nothing else: one for each tenant, objective and group, every
// time one is evaluated. A state is recorded in the control log when what it asks
// of others differs from the last one recorded: its incident's severity, its
// alerts, its action or what its data are worth.

// Data says what an evaluation rests on. The zero value is [DataOK].
type Data int

// What the data can be.
const (
	DataOK         Data = iota // there were units to count
	NoTraffic                  // no session of the app, or of the group, was seen
	Uninstrumented             // sessions came, and nothing of them that the objective counts: it would look perfect
	PipelineFault              // the analysis is behind the journal: what is said is as of data_through
)

var dataNames = []string{"ok", "no_traffic", "instrumentation_lost", "pipeline_fault"}

// String returns ok, no_traffic, instrumentation_lost or pipeline_fault.
func (d Data) String() string { return dataNames[d] }

// MarshalText writes the name.
func (d Data) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a name.
func (d *Data) UnmarshalText(b []byte) error {
	i := slices.Index(dataNames, string(b))
	if i < 0 {
		return fmt.Errorf("data %q: want ok, no_traffic, instrumentation_lost or pipeline_fault", b)
	}
	*d = Data(i)
	return nil
}

// Action is what the error budget lets a pipeline do. The zero value is
// [Allow]: where an objective has no budget policy, its budget stops nobody.
type Action int

// The actions, from the least to the most strict.
const (
	Allow    Action = iota // go on
	Approval               // a person must agree
	Freeze                 // nothing but repairs
)

var actionNames = []string{"allow", "approval", "freeze"}

// String returns allow, approval or freeze.
func (a Action) String() string { return actionNames[a] }

// MarshalText writes the name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a name.
func (a *Action) UnmarshalText(b []byte) error {
	i := slices.Index(actionNames, string(b))
	if i < 0 {
		return fmt.Errorf("action %q: want allow, approval or freeze", b)
	}
	*a = Action(i)
	return nil
}

// Severities that rank above all others; a file may name any other, which ranks
// below these.
const (
	SeverityPage   = "page"   // wakes somebody
	SeverityTicket = "ticket" // is looked at in working hours
)

// SeverityRank orders severities: 2 of a page, 1 of a ticket, 0 of any other, -1
// of none.
func SeverityRank(severity string) int {
	switch severity {
	case SeverityPage:
		return 2
	case SeverityTicket:
		return 1
	case "":
		return -1
	}
	return 0
}

// SLOState is one evaluation of one objective, for all of its traffic or for one
// group of it. (Tenant, SLO, Group) is its identity, and that of its incident:
// there is at most one for each. Number rises by one with every state recorded.
type SLOState struct {
	Version int    `json:"v"` // of this schema: 1
	Tenant  string `json:"tenant"`
	SLO     string `json:"slo"`             // name of the objective, unique within the tenant
	Group   string `json:"group,omitempty"` // value of the objective's group_by, such as a release; empty: all
	GroupBy string `json:"-"`               // the column that Group is of; it is the objective's, and in no record
	Service string `json:"service"`
	App     string `json:"app"`
	Number  uint64 `json:"number"`

	At           time.Time `json:"at"`           // of the evaluation
	DataThrough  time.Time `json:"data_through"` // events received until then are in; windows end here, at a whole minute
	Completeness float64   `json:"completeness"` // share, 0 to 1, of the events of the longest alert window that arrived; the rest were shed at the edge or dropped by clients, who told so
	Data         Data      `json:"data"`
	Position     uint64    `json:"position"` // journal position of the evidence

	Target float64 `json:"target"` // share of units that must be good, in [0,1)
	Unit   string  `json:"unit"`   // event, session or user
	Method string  `json:"method"` // Occurrences, Timeslices or RatioTimeslices
	Digest string  `json:"digest"` // of the objective in force

	Budget Budget `json:"budget"`
	// Alerts has all alerts of the objective in the order of its file, burning or
	// not; empty for an objective without alerts.
	Alerts []Burn `json:"alerts"`
	// Incident is there while any alert burns.
	Incident *SLOIncident `json:"incident,omitempty"`

	Action    Action        `json:"action"` // by the budget policy, and by an exception from it; of a group always allow
	Exception *SLOException `json:"exception,omitempty"`
	Sentence  string        `json:"sentence"` // one that a person can act on
}

// Budget is what an objective may still fail in its window. Counts are of units;
// with timeslices of slices.
type Budget struct {
	From      time.Time `json:"from"` // start of the window
	To        time.Time `json:"to"`   // end of a calendar window, which may be to come; of a rolling one data_through
	Total     int64     `json:"total"`
	Bad       int64     `json:"bad"`
	Allowed   float64   `json:"allowed"`   // bad ones that the target allows of the total
	Remaining Bound     `json:"remaining"` // share of the budget that is left: 1 all, 0 none, negative: overspent; null: nothing was counted
	// Restated is what came later than the objective's allowed lateness, since the
	// objective began, as units: history was corrected by as much.
	Restated Restated `json:"restated"`
}

// Left says what is left of the budget, in per cent: below 0 where more than all of it
// was spent.
func (b *Budget) Left() string { return b.Remaining.Percent() }

// Restated counts late units.
type Restated struct {
	Total int64 `json:"total"`
	Bad   int64 `json:"bad"`
}

// Burn is one alert of an objective. Rates are in budgets per window: at 1 the
// budget lasts exactly as long as the window.
type Burn struct {
	Name      string  `json:"name"`
	Severity  string  `json:"severity"`  // as the file has it
	Form      string  `json:"form"`      // burn; excess: over what is usual at that hour of the week; or trickle: by a sequential test
	Threshold float64 `json:"threshold"` // rate from which it burns; of a trickle the log e-value
	Long      string  `json:"long"`      // window, such as 1h0m0s; empty for a trickle
	Short     string  `json:"short"`
	LongRate  Bound   `json:"long_rate"`  // null: nothing was counted. Of a trickle the log e-value
	ShortRate Bound   `json:"short_rate"` // null: nothing was counted, or a trickle
	Bad       int64   `json:"bad"`        // in the long window
	Total     int64   `json:"total"`
	Enough    bool    `json:"enough"`  // the evidence suffices: enough clients, and no chance
	Burning   bool    `json:"burning"` // all of it holds now. Pending, firing and resolved are alerting's to say
	// After is for how long it must burn before it is told, as a duration; empty: at once.
	After   string   `json:"after,omitempty"`
	Targets []string `json:"targets,omitempty"` // names of the notification targets
	// What is to be told of it. One that tells nothing of a breach is evaluated, and
	// makes no incident.
	WhenBreaching bool `json:"when_breaching,omitempty"`
	WhenResolved  bool `json:"when_resolved,omitempty"`
	WhenNoData    bool `json:"when_no_data,omitempty"`
}

// SLOIncident is what burns now of one objective and group.
type SLOIncident struct {
	Severity string    `json:"severity"` // the highest of its alerts
	Since    time.Time `json:"since"`    // of the evaluation at which the first alert of it burned, none before
	Alerts   []string  `json:"alerts"`   // names of those that burn
}

// Withheld is an objective whose error budget lets no stage go on.
type Withheld struct {
	SLO    string `json:"slo"`
	Action Action `json:"action"` // approval or freeze
	Why    string `json:"why"`
}

// Spend is what a rollout spent of an error budget by its excess: the bad units of
// its canary beyond what the same units would have had at the rate of its baseline
// in the same hours and strata.
type Spend struct {
	SLO      string  `json:"slo"`
	Allowed  float64 `json:"allowed"`  // bad units of a whole window, at the traffic of it so far
	Limit    float64 `json:"limit"`    // of those the rollout may spend
	Bad      int64   `json:"bad"`      // units of the canary
	Compared int64   `json:"compared"` // units of the canary with a baseline beside them
	Excess   Bound   `json:"excess"`   // null: nothing was comparable
	Lo       Bound   `json:"excess_lo"`
	Hi       Bound   `json:"excess_hi"`         // ends of a confidence sequence: they hold at all looks at once
	Refused  string  `json:"refused,omitempty"` // why nothing is decided on it yet
	// Alone is the network without which the lower end is least, where that end is
	// over the limit.
	Alone *Alone `json:"alone,omitempty"`
}

// Alone is one network whose units may be what a rollout spent.
type Alone struct {
	Prefix   string `json:"prefix"`    // keyed hash; empty: all clients whose network is not known
	Canary   int64  `json:"canary"`    // its units there
	Bad      int64  `json:"bad"`       // of those
	Baseline int64  `json:"baseline"`  // its units there
	Lo       Bound  `json:"excess_lo"` // without it; null: nothing is left that is comparable
}

// SLOException lets a pipeline pass an error budget for a time. It is recorded
// with its name and reason.
type SLOException struct {
	Who    string    `json:"who"`
	Why    string    `json:"why"`
	Action Action    `json:"action"` // in place of a stricter one
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
}

// Key identifies the state and its incident within all tenants.
func (s *SLOState) Key() string {
	if s.Group == "" {
		return s.Tenant + "/" + s.SLO
	}
	return s.Tenant + "/" + s.SLO + "/" + s.Group
}
