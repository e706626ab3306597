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
			if r.Verdict.IssuedAt.After(since) && !e.delivered[deliveryKey{tenant, target, message(r.Verdict)}] {
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

// RecordDelivery keeps durably how the delivery of a message ended.
func (e *Engine) RecordDelivery(ctx context.Context, tenant, rollout string, d Delivery) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.record(ctx, Record{Type: TypeDelivery, Tenant: tenant, ID: rollout, At: e.o.Now().UnixMilli(), Position: e.position, Delivery: &d}); err != nil {
		return err
	}
	e.delivered[deliveryKey{tenant, d.Target, d.Message}] = true
	return nil
}

// Changed returns a channel that is closed at the next new verdict.
func (e *Engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}
