package analysis

import (
	"cmp"
	"context"
	"slices"
	"sync"
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

// waiting is what is still to be told to one target. It is made of the records when
// the target is asked about first, and kept up with them from then on: to read all
// verdicts of all rollouts each time one is given would take the engine's lock for
// long.
type waiting struct {
	name  func(prev, v *verdict.Verdict) string
	given map[string]Given // by message
}

type targetKey struct{ tenant, target string }

// Undelivered returns a tenant's verdicts issued since a time for which no
// delivery to target is recorded under the name that name gives them; an empty name is
// of one that is not to be told. They are sorted by rollout and number. name must be a
// function of its arguments alone, the same at each call for a target; prev is the
// verdict given before, nil for the first.
func (e *Engine) Undelivered(tenant, target string, since time.Time, name func(prev, v *verdict.Verdict) string) []Given {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.waiting[targetKey{tenant, target}]
	if w == nil {
		w = &waiting{name, map[string]Given{}}
		e.waiting[targetKey{tenant, target}] = w
		for k := range e.records {
			if k.Tenant != tenant {
				continue
			}
			for _, g := range e.given(k) {
				if id := name(g.Previous, &g.Verdict); id != "" && !e.told(deliveryKey{tenant, target, id}) {
					w.given[id] = g
				}
			}
		}
	}
	var all []Given
	for _, g := range w.given {
		if g.Verdict.IssuedAt.After(since) {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b Given) int {
		return cmp.Or(cmp.Compare(a.Verdict.Rollout, b.Verdict.Rollout), cmp.Compare(a.Verdict.Number, b.Verdict.Number))
	})
	return all
}

// given returns the verdicts of a rollout, in their order.
func (e *Engine) given(k rolloutKey) (all []Given) {
	var prev *verdict.Verdict
	for _, r := range e.records[k] {
		if r.Type == TypeVerdict {
			all = append(all, Given{prev, *r.Verdict})
			prev = r.Verdict
		}
	}
	return all
}

// due has a new verdict told to the targets that were asked about. It is the last of
// the records of its rollout.
func (e *Engine) due(k rolloutKey) {
	// The last two verdicts are at the end: to copy all for them would make each one
	// dearer than the one before.
	var g Given
	found := false
	for _, r := range slices.Backward(e.records[k]) {
		if r.Type != TypeVerdict {
			continue
		}
		if found {
			g.Previous = r.Verdict
			break
		}
		g.Verdict, found = *r.Verdict, true
	}
	for of, w := range e.waiting {
		if of.tenant != k.Tenant {
			continue
		}
		if id := w.name(g.Previous, &g.Verdict); id != "" {
			w.given[id] = g
		}
	}
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

// reports are the deliveries that nobody has begun to record.
type reports struct {
	mu      sync.Mutex
	waiting []*report
}

// report is a delivery that somebody wants recorded.
type report struct {
	Reported
	tenant string
	done   bool
	err    error
}

// maxReports bounds the reports of one record.
const maxReports = 1000

// RecordDelivery keeps durably how the delivery of a message ended, that it is to
// be told again, or that a rollback went on to the next step of its ladder. What
// is reported while a record is written becomes the next one together: a record is a
// sync of the disk, and a rollback is acknowledged by all its receivers at once.
func (e *Engine) RecordDelivery(ctx context.Context, tenant, rollout string, d Delivery) error {
	r := &report{Reported: Reported{rollout, d}, tenant: tenant}
	e.reports.mu.Lock()
	e.reports.waiting = append(e.reports.waiting, r)
	e.reports.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !r.done {
		e.reports.mu.Lock()
		all := e.reports.waiting
		e.reports.waiting = nil
		e.reports.mu.Unlock()
		for len(all) > 0 {
			n := 1
			for n < min(len(all), maxReports) && all[n].tenant == all[0].tenant {
				n++
			}
			// The others' reports are not this caller's to give up.
			e.recordDeliveries(context.WithoutCancel(ctx), all[:n])
			all = all[n:]
		}
	}
	return r.err
}

// recordDeliveries writes reports of one tenant as one record. The caller holds mu.
func (e *Engine) recordDeliveries(ctx context.Context, all []*report) {
	r := Record{Type: TypeDelivery, Tenant: all[0].tenant, ID: all[0].ID, At: e.o.Now().UnixMilli(), Delivery: &all[0].Delivery}
	if len(all) > 1 {
		r.Type, r.ID, r.Delivery = TypeDeliveries, DeliveryLedger, nil
		for _, one := range all {
			r.Reports = append(r.Reports, one.Reported)
		}
	}
	parts, wake := r.parts(), false
	for _, part := range parts {
		// Who waits for what may be overtaken by the first acknowledgement needs no word
		// of the others: each would have all targets look again.
		t := e.fold.Tests[rolloutKey{part.Tenant, part.ID}]
		wake = wake || part.command() && (t == nil || t.Delivered == 0) || part.Delivery.Outcome == Replay || part.Delivery.Outcome == Escalated
	}
	err := e.enact(ctx, r)
	for _, one := range all {
		one.done, one.err = true, err
	}
	if err != nil {
		return
	}
	for _, part := range parts {
		e.reported(part)
	}
	if wake {
		e.wake()
	}
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
	k := deliveryKey{r.Tenant, r.Delivery.Target, r.Delivery.Message}
	e.delivered[k] = Told{r.ID, time.UnixMilli(r.At).UTC(), *r.Delivery}
	w := e.waiting[targetKey{k.tenant, k.target}]
	switch {
	case w == nil:
	case e.told(k):
		delete(w.given, k.message)
	default:
		for _, g := range e.given(rolloutKey{r.Tenant, r.ID}) {
			if w.name(g.Previous, &g.Verdict) == k.message {
				w.given[k.message] = g
			}
		}
	}
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
