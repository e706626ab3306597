package analysis

import (
	"encoding/json"
	"fmt"
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

// Record is one entry of the control log: what people and delivery tools asked
// for, and what was answered. The log is all that the state of rollouts is
// made of (docs/formats/control.md).
type Record struct {
	Type     string           `json:"type"` // one of the types below
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
	Reports  []Reported       `json:"reports,omitempty"`
	Change   *Change          `json:"change,omitempty"`
	Apply    *Apply           `json:"apply,omitempty"`
	Release  *Release         `json:"release,omitempty"`
	Assigned *Assigned        `json:"assigned,omitempty"`
	// Of objectives; their ID is [SLOLedger].
	Objectives []slo.Objective       `json:"objectives,omitempty"`
	SLO        string                `json:"slo,omitempty"` // name of an objective
	State      *verdict.SLOState     `json:"state,omitempty"`
	Exception  *verdict.SLOException `json:"exception,omitempty"`
	Restated   []slo.Restatement     `json:"restated,omitempty"`
	Aftermath  *verdict.Aftermath    `json:"aftermath,omitempty"`
}

// Assigned counts the clients that were assigned to the arms of a rollout so far.
type Assigned struct {
	Canary   int64 `json:"canary"`
	Baseline int64 `json:"baseline"`
}

// Reported is the delivery of a message of a rollout.
type Reported struct {
	ID       string   `json:"id"` // of the rollout
	Delivery Delivery `json:"delivery"`
}

// Delivery says how the delivery of one message to one target ended.
type Delivery struct {
	Target  string `json:"target"`
	Message string `json:"message"`
	Outcome string `json:"outcome"` // delivered, expired, refused, overtaken, rejected; or one of those below
	Tries   int    `json:"tries,omitempty"`
	Status  int    `json:"status,omitempty"` // HTTP's, of the last try
	Who     string `json:"who,omitempty"`    // of a replay
	// Rollback is the number of the verdict that is told, where that is a rollback.
	// Such deliveries are in the rollout's ledger.
	Rollback uint64 `json:"rollback,omitempty"`
	Step     int    `json:"step,omitempty"` // of the rollback's ladder, from 1; 0: the target is on none
}

// The outcomes that end no telling.
const (
	Replay    = "replay"    // somebody wants a message told again
	Escalated = "escalated" // a rollback went on to a step of its ladder, whose target is told from now on
)

// delivered is the outcome of what a receiver acknowledged.
const delivered = "delivered"

// acknowledges reports whether a receiver took a rollback.
func (d *Delivery) acknowledges() bool { return d.Outcome == delivered && d.Rollback > 0 }

// The types of records.
const (
	TypeRollout  = "rollout"
	TypeStage    = "stage"
	TypeOverride = "override"
	TypeVerdict  = "verdict"
	TypeDelivery = "delivery"
	// TypeDeliveries are several of one tenant, reported together; the id is [DeliveryLedger].
	TypeDeliveries = "deliveries"
	TypeAssigned   = "assigned" // how many clients were assigned to the arms so far
	TypeRelease    = "release"  // a release came to a state; the id is APP/RELEASE
	TypeDocument   = "document" // a document was changed; the id is KIND/NAME; of logs from before there was apply
	TypeApply      = "apply"    // documents were changed and rollouts registered, all at once; the id is [ApplyLedger]
	// TypeShadow begins, or without a rollout ends, the trial of another policy
	// beside the active one; TypeShadowVerdict is what it says.
	TypeShadow        = "shadow"
	TypeShadowVerdict = "shadow_verdict"
	TypeEnd           = "end" // the rollout ends, and its test is dropped
	// TypeObjectives sets all objectives of a tenant; TypeException lets a pipeline
	// pass a budget for a time; TypeRestatement takes late units into the ledger;
	// TypeSLOState is what was said of an objective.
	TypeObjectives  = "objectives"
	TypeException   = "exception"
	TypeRestatement = "restatement"
	TypeSLOState    = "slo_state"
	// TypeAftermath says that a delivered rollback has no effect, or has it now.
	TypeAftermath = "aftermath"
)

// SLOLedger is the ID of a tenant's records on objectives. No rollout can have it.
const SLOLedger = "_slo"

// ApplyLedger is the ID of a tenant's records of [TypeApply]. No rollout can have it.
const ApplyLedger = "_apply"

// DeliveryLedger is the ID of a tenant's records of [TypeDeliveries]. No rollout can have it.
const DeliveryLedger = "_deliveries"

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
	return r.Type == TypeDelivery && r.Delivery.acknowledges() || slices.Contains([]string{TypeRollout, TypeStage, TypeOverride, TypeShadow, TypeEnd, TypeAssigned, TypeRelease, TypeObjectives, TypeException, TypeRestatement}, r.Type)
}

// parts returns the records that a record stands for, in order: itself, what
// an apply did, or each of several deliveries.
func (r Record) parts() (all []Record) {
	one := func(kind, id string) Record {
		return Record{Type: kind, Tenant: r.Tenant, ID: id, At: r.At, Position: r.Position}
	}
	switch r.Type {
	case TypeDeliveries:
		for i := range r.Reports {
			d := one(TypeDelivery, r.Reports[i].ID)
			d.Delivery = &r.Reports[i].Delivery
			all = append(all, d)
		}
		return all
	case TypeApply:
	default:
		return []Record{r}
	}
	for i := range r.Apply.Changes {
		c := one(TypeDocument, r.Apply.Changes[i].Kind+"/"+r.Apply.Changes[i].Name)
		c.Change = &r.Apply.Changes[i]
		all = append(all, c)
	}
	if r.Apply.Objectives != nil {
		o := one(TypeObjectives, SLOLedger)
		o.Objectives = r.Apply.Objectives
		all = append(all, o)
	}
	for i := range r.Apply.Rollouts {
		ro := one(TypeRollout, r.Apply.Rollouts[i].ID)
		ro.Rollout = &r.Apply.Rollouts[i]
		all = append(all, ro)
	}
	return all
}

// kept reports whether the record belongs in the ledger of its ID: it is a part of
// what verdicts rest on, or of what became of a rollback.
func (r *Record) kept() bool {
	switch r.Type {
	case TypeDelivery:
		return r.Delivery.Rollback > 0
	case TypeDocument, TypeRelease:
		return false
	}
	return true
}

// rolloutKey names a rollout among all tenants.
type rolloutKey struct{ Tenant, ID string }

// shadow is the key of the trial of another policy.
func (k rolloutKey) shadow() rolloutKey {
	return rolloutKey{k.Tenant, k.ID + canary.ShadowSuffix}
}

// end is what is kept of a rollout that has ended.
type end struct {
	Rollout         canary.Rollout
	Stage           int
	Created, Staged int64 // Unix ms
}

// apply changes the tests as a command says. Commands were checked before they
// were recorded; one on a rollout that has ended changes nothing.
func (f *fold) apply(r Record) {
	f.apps, f.books = nil, nil // commands are rare
	if r.ID == SLOLedger {
		f.applySLO(r)
		return
	}
	k := rolloutKey{r.Tenant, r.ID}
	if r.Type == TypeRelease {
		f.setRelease(r)
		return
	}
	if r.Type == TypeRollout {
		f.Tests[k] = canary.NewTest(r.Tenant, *r.Rollout, r.At)
		return
	}
	t, shadow := f.Tests[k], f.Tests[k.shadow()]
	if t == nil {
		return
	}
	switch r.Type {
	case TypeStage:
		t.SetStage(r.Stage, r.At)
		if shadow != nil {
			shadow.SetStage(min(r.Stage, len(shadow.Rollout.Stages)-1), r.At)
		}
	case TypeDelivery:
		t.Deliver(r.At)
	case TypeAssigned:
		t.Assign(r.Assigned.Canary, r.Assigned.Baseline)
	case TypeOverride:
		t.Withdraw()
		t.ForcedBy = r.Force
		if r.Force.Decision == "" { // withdrawn
			t.ForcedBy = nil
		}
	case TypeShadow:
		delete(f.Tests, k.shadow())
		if r.Rollout != nil {
			s := canary.NewTest(r.Tenant, *r.Rollout, r.At)
			s.SetStage(min(t.Stage, len(s.Rollout.Stages)-1), r.At)
			f.Tests[k.shadow()] = s
		}
	case TypeEnd:
		f.Ended[k] = end{t.Rollout, t.Stage, t.Created, t.Staged}
		delete(f.Tests, k)
		delete(f.Tests, k.shadow())
	}
}
