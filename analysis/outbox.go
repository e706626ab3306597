package analysis

import (
	"cmp"
	"context"
	"slices"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The log of verdicts is the outbox of whoever delivers them: a verdict and
// the duty to tell it become durable in one write. What was delivered is
// recorded in the same log.

type deliveryKey struct{ tenant, target, message string }

// Given is a verdict with the one that was given before it, if any.
type Given struct {
	Previous *verdict.Verdict
	Verdict  verdict.Verdict
}

// Undelivered returns a tenant's verdicts issued since a time for which no
// delivery to target is recorded under the name that message gives them. They
// are sorted by rollout and number.
func (e *Engine) Undelivered(tenant, target string, since time.Time, message func(*verdict.Verdict) string) []Given {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Given
	for k, rs := range e.records {
		if k.Tenant != tenant {
			continue
		}
		var prev *verdict.Verdict
		for _, r := range rs {
			if r.Type != TypeVerdict {
				continue
			}
			if r.Verdict.IssuedAt.After(since) && !e.told(deliveryKey{tenant, target, message(r.Verdict)}) {
				all = append(all, Given{prev, *r.Verdict})
			}
			prev = r.Verdict
		}
	}
	slices.SortFunc(all, func(a, b Given) int {
		return cmp.Or(cmp.Compare(a.Verdict.Rollout, b.Verdict.Rollout), cmp.Compare(a.Verdict.Number, b.Verdict.Number))
	})
	return all
}

// Replay is the outcome by which somebody asks for a message to be told again.
const Replay = "replay"

// Told is what is recorded of one delivery.
type Told struct {
	Rollout string    `json:"rollout"`
	At      time.Time `json:"at"`
	Delivery
}

// Deliveries returns the newest report on each of a tenant's messages since a
// time, newest first.
func (e *Engine) Deliveries(tenant string, since time.Time) []Told {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Told
	for k, told := range e.delivered {
		if k.tenant == tenant && told.At.After(since) {
			all = append(all, told)
		}
	}
	slices.SortFunc(all, func(a, b Told) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Message, b.Message)) })
	return all
}

// RecordDelivery keeps durably how the delivery of a message ended, or that it
// is to be told again.
func (e *Engine) RecordDelivery(ctx context.Context, tenant, rollout string, d Delivery) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Record{Type: TypeDelivery, Tenant: tenant, ID: rollout, At: e.o.Now().UnixMilli(), Position: e.position, Delivery: &d}
	if _, err := e.record(ctx, r); err != nil {
		return err
	}
	e.reported(r)
	if d.Outcome == Replay {
		close(e.changed)
		e.changed = make(chan struct{})
	}
	return nil
}

// Newest returns the newest verdict that is recorded of a rollout, nil for none.
func (e *Engine) Newest(tenant, rollout string) *verdict.Verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.latest[rolloutKey{tenant, rollout}]
	if l == nil {
		return nil
	}
	v := l.recorded
	return &v
}

// reported takes in the newest report on a message.
func (e *Engine) reported(r Record) {
	e.delivered[deliveryKey{r.Tenant, r.Delivery.Target, r.Delivery.Message}] = Told{r.ID, time.UnixMilli(r.At).UTC(), *r.Delivery}
}

// told reports whether a message needs no more telling.
func (e *Engine) told(k deliveryKey) bool {
	t, ok := e.delivered[k]
	return ok && t.Outcome != Replay
}

// Changed returns a channel that is closed at the next new verdict.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}
