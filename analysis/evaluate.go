package analysis

import (
	"cmp"
	"context"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
)

// evaluate records the verdicts that differ from the last, and ends the rollouts
// whose time has come. The caller holds mu.
func (e *Engine) evaluate(ctx context.Context, now time.Time) error {
	// In an order of their own, so that the control log is.
	keys := make([]rolloutKey, 0, len(e.fold.Tests))
	for k := range e.fold.Tests {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b rolloutKey) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID)) })
	for _, k := range keys {
		t := e.fold.Tests[k]
		if t == nil {
			continue // a trial whose rollout has just ended
		}
		if err := e.judge(ctx, k, t, now); err != nil {
			return err
		}
		if err := e.followUp(ctx, k, t, now); err != nil {
			return err
		}
		if err := e.retire(ctx, k, t, now); err != nil {
			return err
		}
	}
	return e.evaluateSLOs(ctx, now)
}

// judge asks one test for its verdict, and records it where it differs from the
// last.
func (e *Engine) judge(ctx context.Context, k rolloutKey, t *canary.Test, now time.Time) error {
	q := canary.Question{At: now.UnixMilli(), Position: e.position, Behind: e.behind, Beside: e.beside(k), Budgets: e.withheld(t)}
	q.Spend = e.fold.spend(t, q)
	v := t.Decide(q)
	prev := e.latest[k]
	if prev != nil && !transition(&prev.recorded, &v) {
		v.Number = prev.recorded.Number
		prev.current = v
		return nil
	}
	v.Number = 1
	if prev != nil {
		v.Number = prev.recorded.Number + 1
	}
	r := Record{Type: TypeVerdict, Tenant: k.Tenant, ID: v.Rollout, At: now.UnixMilli(), Position: e.position, Behind: e.behind, Verdict: &v}
	if v.Shadow {
		r.Type = TypeShadowVerdict
	}
	if _, err := e.record(ctx, r); err != nil {
		return err
	}
	e.latest[k] = &issued{recorded: v, current: v}
	if !v.Shadow {
		e.metrics.verdict(v.Decision)
	}
	e.o.Logger.Info("verdict", "tenant", k.Tenant, "rollout", v.Rollout, "number", v.Number, "decision", v.Decision.String(), "shadow", v.Shadow, "sentence", v.Sentence)
	e.wake()
	return nil
}

// beside returns the other changes that are under way on the app of a rollout,
// sorted: what is found of one may be the other's doing. The caller holds mu.
func (e *Engine) beside(k rolloutKey) (changes []string) {
	t := e.fold.Tests[k]
	for other, o := range e.fold.Tests {
		if other.Tenant != k.Tenant || o.Shadow() || o.Latched || o.Rollout.App != t.Rollout.App || o.Rollout.Change == t.Rollout.Change || o.Sessions[1] == 0 {
			continue
		}
		changes = append(changes, o.Rollout.Change)
	}
	slices.Sort(changes)
	return slices.Compact(changes)
}

// retire ends a rollout once its last verdict, a rollback or the last stage's
// promote, has stood for the policy's time, or it has reached its greatest age.
// Without an end each rollout would cost memory and evaluations for good.
func (e *Engine) retire(ctx context.Context, k rolloutKey, t *canary.Test, now time.Time) error {
	if t.Shadow() {
		return nil // ends with its rollout
	}
	v := &e.latest[k].recorded
	final := v.Decision == verdict.Rollback || v.Decision == verdict.Promote && v.Stage == len(t.Rollout.Stages)-1
	p := &t.Rollout.Policy
	over := final && p.Retire > 0 && now.Sub(v.IssuedAt) >= time.Duration(p.Retire)
	old := p.MaxAge > 0 && now.UnixMilli()-t.Created >= time.Duration(p.MaxAge).Milliseconds()
	if !over && !old { // a rollout from before there were these bounds has none
		return nil
	}
	if err := e.enact(ctx, Record{Type: TypeEnd, Tenant: k.Tenant, ID: k.ID, At: now.UnixMilli()}); err != nil {
		return err
	}
	e.o.Logger.Info("rollout ended", "tenant", k.Tenant, "rollout", k.ID, "decision", v.Decision.String(), "age", now.Sub(time.UnixMilli(t.Created)).Round(time.Second).String())
	return nil
}

// transition reports whether a verdict says something else than the last one.
func transition(old, v *verdict.Verdict) bool {
	return old.Decision != v.Decision || old.Stage != v.Stage || old.Policy != v.Policy || old.Reasons[0].Code != v.Reasons[0].Code
}
