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

// RecordDelivery keeps durably how the delivery of a message ended, that it is to
// be told again, or that a rollback went on to the next step of its ladder.
func (e *Engine) RecordDelivery(ctx context.Context, tenant, rollout string, d Delivery) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := Record{Type: TypeDelivery, Tenant: tenant, ID: rollout, At: e.o.Now().UnixMilli(), Delivery: &d}
	// Who waits for what may be overtaken by the first acknowledgement needs no word of
	// the others: each would have all targets look again.
	t := e.fold.Tests[rolloutKey{tenant, rollout}]
	first := r.command() && (t == nil || t.Delivered == 0)
	if err := e.enact(ctx, r); err != nil {
		return err
	}
	e.reported(r)
	if first || d.Outcome == Replay || d.Outcome == Escalated {
		e.wake()
	}
	return nil
}

// wake tells those who wait that there may be something new. The caller holds mu.
func (e *Engine) wake() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Report returns the newest report on the telling of a message to a target; ok is
// false where there is none.
func (e *Engine) Report(tenant, target, message string) (t Told, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok = e.delivered[deliveryKey{tenant, target, message}]
	return t, ok
}

// RolledBack is a rollback that stands: the verdicts of one rollout that say so up
// to the newest one, with none between them that says otherwise.
type RolledBack struct{ Verdicts []verdict.Verdict }

// First returns the verdict by which the rollout was rolled back.
func (r *RolledBack) First() *verdict.Verdict { return &r.Verdicts[0] }

// RolledBack returns a tenant's rollbacks that stand and were given since a time,
// sorted by rollout.
func (e *Engine) RolledBack(tenant string, since time.Time) []RolledBack {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []RolledBack
	for k, l := range e.latest {
		if k.Tenant != tenant || l.recorded.Shadow || l.recorded.Decision != verdict.Rollback {
			continue
		}
		if one := e.rolledBack(k); !one.First().IssuedAt.Before(since) {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b RolledBack) int { return cmp.Compare(a.First().Rollout, b.First().Rollout) })
	return all
}

// rolledBack returns the rollback of a rollout whose newest verdict is one. The
// caller holds mu.
func (e *Engine) rolledBack(k rolloutKey) (one RolledBack) {
	for _, r := range slices.Backward(e.records[k]) {
		if r.Type != TypeVerdict {
			continue
		}
		if r.Verdict.Decision != verdict.Rollback {
			break
		}
		one.Verdicts = append(one.Verdicts, *r.Verdict)
	}
	slices.Reverse(one.Verdicts)
	return one
}

// Stands returns the rollback of one rollout; ok is false where its newest verdict
// is none.
func (e *Engine) Stands(tenant, rollout string) (_ RolledBack, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{tenant, rollout}
	if l := e.latest[k]; l == nil || l.recorded.Decision != verdict.Rollback {
		return RolledBack{}, false
	}
	return e.rolledBack(k), true
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
	return ok && t.Outcome != Replay && t.Outcome != Escalated
}

// Changed returns a channel that is closed at the next new verdict.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// Began returns when the step of a rollback's ladder that tells a target began; ok
// is false where it has not. The rollback is named by the number of its first verdict.
func (e *Engine) Began(tenant, rollout string, number uint64, target string) (at time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.records[rolloutKey{tenant, rollout}] {
		if r.Type == TypeDelivery && r.Delivery.Outcome == Escalated && r.Delivery.Rollback == number && r.Delivery.Target == target {
			return time.UnixMilli(r.At).UTC(), true
		}
	}
	return time.Time{}, false
}
