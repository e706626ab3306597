package analysis

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
)

// aftermath is what was recorded last of a rollback's effect, and the evaluation
// that last confirmed it.
type aftermath struct{ recorded, current verdict.Aftermath }

// followUp looks once a minute at what became of a rollback that was delivered, and
// records where that is another than before. The caller holds mu.
func (e *Engine) followUp(ctx context.Context, k rolloutKey, t *canary.Test, now time.Time) error {
	if t.Shadow() {
		return nil
	}
	if t.Delivered == 0 {
		delete(e.aftermath, k)
		return nil
	}
	prev := e.aftermath[k]
	if prev != nil && prev.recorded.Delivered.UnixMilli() != t.Delivered {
		prev = nil // of a rollback before this one
	}
	if prev != nil && prev.current.Through.Unix()/60 == now.Unix()/60 {
		return nil
	}
	next := &aftermath{}
	if prev != nil {
		next.recorded = prev.recorded
	}
	r := Record{Type: TypeAftermath, Tenant: k.Tenant, ID: k.ID, At: now.UnixMilli(), Position: e.position, Behind: e.behind}
	a := t.Aftermath(canary.Question{At: r.At, Position: r.Position, Behind: r.Behind}, next.recorded.Ineffective)
	a.Number = next.recorded.Number
	next.current = *a
	next.recorded.Delivered = a.Delivered
	if a.Ineffective != next.recorded.Ineffective {
		next.current.Number++
		next.recorded = next.current
		r.Aftermath = &next.recorded
		if _, err := e.record(ctx, r); err != nil {
			return err
		}
		e.o.Logger.Warn("rollback", "tenant", k.Tenant, "rollout", k.ID, "ineffective", a.Ineffective, "sentence", a.Sentence)
		e.wake()
	}
	e.aftermath[k] = next
	return nil
}

// Ineffective returns the rollbacks of all tenants after which sessions go on
// starting on the canary, as conditions that somebody is to know of.
func (e *Engine) Ineffective() (all []verdict.Condition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, a := range e.aftermath {
		t := e.fold.Tests[k]
		if t == nil || t.Delivered == 0 || !a.current.Ineffective {
			continue
		}
		all = append(all, verdict.Condition{Tenant: k.Tenant, Name: verdict.RollbackIneffective, Rollout: k.ID, App: t.Rollout.App, Release: t.Rollout.Canary,
			Severity: verdict.SeverityPage, Sentence: a.current.Sentence})
	}
	slices.SortFunc(all, func(a, b verdict.Condition) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Rollout, b.Rollout))
	})
	return all
}

// ReplayedAftermath is what was recorded of a rollback's effect, and what the
// segments say of it again.
type ReplayedAftermath struct {
	Given, Again verdict.Aftermath
	Equal        bool // to the byte, as JSON
}

// BacktestAftermath recomputes what was recorded of the effect of a rollout's
// rollback from segments and the ledger beside them.
func BacktestAftermath(ctx context.Context, s *segment.Store, tenantName, rollout string) ([]ReplayedAftermath, error) {
	p, err := newReplay(s, tenantName, rollout)
	if err != nil {
		return nil, err
	}
	var out []ReplayedAftermath
	was := verdict.Aftermath{}
	p.aftermath = func(r Record) error {
		t := p.test()
		if t == nil {
			return nil
		}
		if was.Delivered != r.Aftermath.Delivered {
			was = verdict.Aftermath{}
		}
		again := t.Aftermath(canary.Question{At: r.At, Position: r.Position, Behind: r.Behind}, was.Ineffective)
		if again == nil {
			again = &verdict.Aftermath{}
		}
		again.Number = was.Number + 1
		was = *r.Aftermath
		given, err := json.Marshal(r.Aftermath)
		if err != nil {
			return err
		}
		same, err := json.Marshal(again)
		if err != nil {
			return err
		}
		out = append(out, ReplayedAftermath{*r.Aftermath, *again, bytes.Equal(given, same)})
		return nil
	}
	err = p.run(ctx)
	return out, err
}
