package analysis

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// ReplayedState is one state of an objective as it was recorded and as the
// segments give it again.
type ReplayedState struct {
	Given, Again verdict.SLOState
	Equal        bool // to the byte, as JSON
}

// BacktestSLO recomputes the recorded states of one objective from segments and
// the ledgers beside them, in the order in which they were recorded. It needs the
// ledgers of the app's rollouts too, since a session that takes part in one is
// known for longer.
func BacktestSLO(ctx context.Context, s *segment.Store, tenantName, name string) ([]ReplayedState, error) {
	p := &replay{store: s, key: rolloutKey{tenantName, SLOLedger}, fold: newFold()}
	err := p.widen()
	if err != nil {
		return nil, err
	}
	for _, r := range p.records {
		for _, o := range r.Objectives {
			if o.Name == name {
				p.app = o.App
			}
		}
	}
	if p.app == "" {
		return nil, fmt.Errorf("tenant %q, objective %q: %w", tenantName, name, ErrNoObjective)
	}
	if p.tenant, err = tenant.Stored(tenantName); err != nil {
		return nil, err
	}
	var out []ReplayedState
	last := map[string]*verdict.SLOState{} // given, by group
	p.state = func(r Record) error {
		b := p.fold.Books[sloKey{tenantName, name}]
		if r.SLO != name || b == nil || b.Objective.App != p.app {
			return nil
		}
		one := ReplayedState{Given: *r.State}
		q := slo.Question{At: r.At, Position: r.Position, Behind: r.Behind}
		if err := b.Evaluate(tenantName, q, func(s *verdict.SLOState) {
			if s.Group != r.State.Group {
				return
			}
			follow(last[s.Group], s)
			one.Again = *s
			one.Again.Alerts = slices.Clone(s.Alerts)
		}); err != nil {
			return err
		}
		last[r.State.Group] = r.State
		given, err := json.Marshal(one.Given)
		if err != nil {
			return err
		}
		again, err := json.Marshal(one.Again)
		if err != nil {
			return err
		}
		one.Equal = bytes.Equal(given, again)
		out = append(out, one)
		return nil
	}
	err = p.run(ctx)
	return out, err
}
