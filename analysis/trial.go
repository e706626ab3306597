package analysis

import (
	"context"
	"fmt"
	"slices"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
)

// lookEvery is how often a trial looks at both policies between the verdicts
// that were given, in ms of receive time.
const lookEvery = 1000

// Differing is what a rollout's verdicts were, and what they would have been
// under another policy. Each list has the verdicts that differ from the one
// before, oldest first, as the engine would record them.
type Differing struct {
	Rollout      canary.Rollout // under the other policy
	Given, Would []verdict.Verdict
}

// Final returns the last of some verdicts that is no hold of a stage, if any.
func Final(vs []verdict.Verdict, stage int) (verdict.Verdict, bool) {
	for _, v := range vs {
		if v.Stage == stage && v.Decision != verdict.Hold {
			return v, true
		}
	}
	return verdict.Verdict{}, false
}

// Try replays a recorded rollout under another policy, beside the recorded one.
// The stages were gone through when they were; where the other policy would not
// have let them, its verdicts say so. Verdicts that a person gave stand for
// both. It answers [canary.ErrInvalid] where the policy does not fit the rollout.
func Try(ctx context.Context, s *segment.Store, tenantName, rollout string, policy canary.Policy) (Differing, error) {
	var d Differing
	p, err := newReplay(s, tenantName, rollout)
	if err != nil {
		return d, err
	}
	if policy.Budget != nil {
		if err := p.widen(); err != nil {
			return d, err
		}
	}
	would, err := canary.NewTest(tenantName, p.rollout, p.own[0].At).Under(policy)
	if err != nil {
		return d, fmt.Errorf("rollout %s: %w", rollout, err)
	}
	d.Rollout = would
	note := func(vs *[]verdict.Verdict, v verdict.Verdict) {
		if n := len(*vs); n == 0 || transition(&(*vs)[n-1], &v) {
			v.Number = uint64(n + 1)
			*vs = append(*vs, v)
		}
	}
	var looked int64
	look := func(at int64, behind bool) {
		q := canary.Question{At: at, Behind: behind}
		if t := p.test(); t != nil {
			q.Spend = p.fold.spend(t, q)
			note(&d.Given, t.Decide(q))
		}
		if t := p.fold.Tests[p.key.shadow()]; t != nil {
			q.Spend = p.fold.spend(t, q)
			note(&d.Would, t.Decide(q))
		}
		looked = at
	}
	p.command = func(r Record) Record {
		switch r.Type {
		case TypeRollout:
			p.fold.apply(r)
			return Record{Type: TypeShadow, Tenant: r.Tenant, ID: r.ID, At: r.At, Rollout: &would}
		case TypeShadow:
			return Record{Type: TypeShadowVerdict, Tenant: r.Tenant, ID: r.ID} // not what was tried then
		case TypeOverride:
			if t := p.fold.Tests[p.key.shadow()]; t != nil {
				t.ForcedBy = r.Force
				if r.Force.Decision == "" {
					t.ForcedBy = nil
				}
			}
		}
		return r
	}
	p.verdict = func(r Record) error { look(r.At, r.Behind); return nil }
	p.time = func(received int64) {
		if received >= looked+lookEvery {
			look(received, false)
		}
	}
	err = p.run(ctx)
	return d, err
}

// Recorded returns the names of a tenant's rollouts that have a ledger.
func Recorded(s *segment.Store, tenantName string) ([]string, error) {
	var ids []string
	err := s.Ledgers(func(t, id string, _ []byte) error {
		if t == tenantName && id != SLOLedger {
			ids = append(ids, id)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// Explain returns the evidence of one rollout from segments and its ledger, as
// it stood at the end of either, or of the rollout.
func Explain(ctx context.Context, s *segment.Store, tenantName, rollout string) (Evidence, error) {
	p, err := newReplay(s, tenantName, rollout)
	if err != nil {
		return Evidence{}, err
	}
	var last verdict.Verdict
	p.verdict = func(r Record) error { last = *r.Verdict; return nil }
	var was verdict.Aftermath // as it was recorded last
	p.aftermath = func(r Record) error { was = *r.Aftermath; return nil }
	ended := false
	p.command = func(r Record) Record {
		if r.Type == TypeEnd {
			ended = true // and its test stays, to be shown
			return Record{Type: TypeVerdict, Tenant: r.Tenant, ID: r.ID}
		}
		return r
	}
	if err := p.run(ctx); err != nil {
		return Evidence{}, err
	}
	t := p.test()
	if t.Now > last.IssuedAt.UnixMilli() && !ended {
		number := last.Number
		q := canary.Question{At: t.Now, Position: last.Position, Budgets: last.Budgets}
		q.Spend = p.fold.spend(t, q)
		last = t.Decide(q)
		last.Number = number
	}
	became := t.Aftermath(canary.Question{At: t.Now}, was.Ineffective)
	if became != nil {
		became.Number = was.Number
	}
	return evidence(Status{Rollout: t.Rollout, Stage: t.Stage, Created: time.UnixMilli(t.Created).UTC(), Staged: time.UnixMilli(t.Staged).UTC(), Verdict: last, Aftermath: became, Ended: ended},
		t, p.own, p.fold.Cells), nil
}
