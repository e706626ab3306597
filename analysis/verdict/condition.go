package verdict

import "time"

// The conditions that somebody is alerted of beside objectives.
const (
	// RollbackUnacknowledged says that nobody acknowledged a rollback up to the step
	// of its ladder that pages.
	RollbackUnacknowledged = "rollback_unacknowledged"
	// RollbackIneffective says that sessions go on starting on a canary whose
	// rollback was delivered.
	RollbackIneffective = "rollback_ineffective"
)

// Condition is something about a rollout that holds now and that somebody is to
// know of. (Tenant, Name, Rollout) is its identity.
type Condition struct {
	Tenant   string
	Name     string // one of the constants above
	Rollout  string
	App      string
	Release  string   // the canary; of a flag its variant
	Severity string   // as those of alerts
	Targets  []string // names of the alert targets that are told; empty: all
	Sentence string   // one that a person can act on
}

// Aftermath is what became of a rollback after it was delivered: the share of
// the app's sessions that start on the canary, beside what it was before. A tool's
// 2xx is a receipt, and this is the effect.
type Aftermath struct {
	Rollout   string    `json:"rollout"`
	Number    uint64    `json:"number"`    // rises by one with every change of Ineffective that is recorded
	Delivered time.Time `json:"delivered"` // when the first receiver answered 2xx
	// Begins is the end of the time that a rollback has to take effect; before it
	// nothing is judged.
	Begins  time.Time `json:"begins"`
	Through time.Time `json:"through"` // sessions that started before it are counted
	Before  Starts    `json:"before"`  // in the stage, up to an hour before the delivery
	After   Starts    `json:"after"`   // in the ten minutes up to Through
	LogE    Bound     `json:"log_e"`   // that the share has not fallen to a half; null: nothing is judged yet
	Needed  float64   `json:"log_e_needed"`
	// Ineffective says that sessions go on starting on the canary.
	Ineffective bool   `json:"ineffective"`
	Sentence    string `json:"sentence"`
}

// Starts counts sessions by their start.
type Starts struct {
	All    int64 `json:"all"` // of the app, on an arm of the change or not
	Canary int64 `json:"canary"`
}
