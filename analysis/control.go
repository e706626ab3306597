package analysis

import (
	"encoding/json"
	"fmt"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
)

// Record is one entry of the control log: what people and delivery tools asked
// for, and what was answered. The log is all that the state of rollouts is
// made of (docs/formats/control.md).
type Record struct {
	Type     string           `json:"type"` // rollout, stage, override, verdict or delivery
	Tenant   string           `json:"tenant"`
	ID       string           `json:"id"`               // of the rollout
	At       int64            `json:"at"`               // Unix ms
	Position uint64           `json:"position"`         // of the events log, at which the fold stood
	Behind   bool             `json:"behind,omitempty"` // of a verdict: the fold stood behind the log
	Rollout  *canary.Rollout  `json:"rollout,omitempty"`
	Stage    int              `json:"stage,omitempty"`
	Force    *canary.Force    `json:"force,omitempty"`
	Verdict  *verdict.Verdict `json:"verdict,omitempty"`
	Delivery *Delivery        `json:"delivery,omitempty"`
}

// Delivery says how the delivery of one message to one target ended.
type Delivery struct {
	Target  string `json:"target"`
	Message string `json:"message"`
	Outcome string `json:"outcome"`
}

// The types of records.
const (
	TypeRollout  = "rollout"
	TypeStage    = "stage"
	TypeOverride = "override"
	TypeVerdict  = "verdict"
	TypeDelivery = "delivery"
)

// ParseRecord reads one entry of the control log.
func ParseRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read control record: %w", err)
	}
	return r, nil
}

// command reports whether the record changes a test, as against reporting on
// one.
func (r *Record) command() bool {
	return r.Type == TypeRollout || r.Type == TypeStage || r.Type == TypeOverride
}

// rolloutKey names a rollout among all tenants.
type rolloutKey struct{ Tenant, ID string }

// apply changes the tests as a command says. Commands were checked before they
// were recorded.
func apply(tests map[rolloutKey]*canary.Test, r Record) {
	k := rolloutKey{r.Tenant, r.ID}
	switch r.Type {
	case TypeRollout:
		tests[k] = canary.NewTest(r.Tenant, *r.Rollout, r.At)
	case TypeStage:
		tests[k].SetStage(r.Stage, r.At)
	case TypeOverride:
		tests[k].ForcedBy = r.Force
		if r.Force.Decision == "" { // withdrawn
			tests[k].ForcedBy = nil
		}
	}
}
