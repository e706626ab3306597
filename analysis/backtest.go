package analysis

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// Replayed is one verdict as it was given and as the segments give it again.
type Replayed struct {
	Given, Again verdict.Verdict
	Equal        bool // to the byte, as JSON
}

// Backtest recomputes the verdicts of one rollout from segments and the ledger
// beside them, in the order in which they were given. A ledger is written after the
// segments that its verdicts rest on, so it never speaks of rows that are not
// there.
func Backtest(ctx context.Context, s *segment.Store, tenantName, rollout string) ([]Replayed, error) {
	var out []Replayed
	p, err := newReplay(s, tenantName, rollout)
	if err != nil {
		return nil, err
	}
	p.verdict = func(r Record) error {
		q := canary.Question{At: r.At, Position: r.Position, Behind: r.Behind, Beside: r.Verdict.Confounded, Budgets: r.Verdict.Budgets}
		q.Spend = p.fold.spend(p.test(), q)
		again := p.test().Decide(q)
		again.Number = r.Verdict.Number
		given, err := json.Marshal(r.Verdict)
		if err != nil {
			return err
		}
		same, err := json.Marshal(again)
		if err != nil {
			return err
		}
		out = append(out, Replayed{Given: *r.Verdict, Again: again, Equal: bytes.Equal(given, same)})
		return nil
	}
	err = p.run(ctx)
	return out, err
}

// replay folds the segments of one rollout's app again, and runs the records of
// its ledger where they were made.
type replay struct {
	store   *segment.Store
	tenant  tenant.ID
	key     rolloutKey
	app     string
	rollout canary.Rollout // as it was registered; of an objective none
	own     []Record       // of the rollout
	records []Record       // that are run, in their order
	fold    *fold
	command func(Record) Record // what to apply in place of a command; nil: the command
	verdict func(Record) error  // where a verdict was given
	state   func(Record) error  // where a state of an objective was recorded; may be nil
	// aftermath is called where the effect of a rollback was recorded; may be nil.
	aftermath func(Record) error
	time      func(received int64) // before the rows of a beacon are folded; may be nil
}

func newReplay(s *segment.Store, tenantName, rollout string) (*replay, error) {
	p := &replay{store: s, key: rolloutKey{tenantName, rollout}, fold: newFold()}
	err := s.Ledgers(func(t, id string, data []byte) error {
		if t != tenantName || id != rollout {
			return nil
		}
		return json.Unmarshal(data, &p.records)
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger of %s: %w", rollout, err)
	}
	if len(p.records) == 0 || p.records[0].Rollout == nil {
		return nil, fmt.Errorf("tenant %q, rollout %q: %w", tenantName, rollout, ErrNotFound)
	}
	p.rollout, p.own = *p.records[0].Rollout, p.records
	p.app = p.rollout.App
	if p.tenant, err = tenant.Stored(tenantName); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(p.records, func(r Record) bool { return r.Rollout != nil && r.Rollout.Policy.Budget != nil }) {
		err = p.widen()
	}
	return p, err
}

// widen has the replay run the records of all of the tenant's ledgers: what a
// rollout spends of an error budget is in the book of an objective, which knows a
// session that takes part in any rollout for longer.
func (p *replay) widen() error {
	p.records = nil
	err := p.store.Ledgers(func(t, _ string, data []byte) error {
		if t != p.key.Tenant {
			return nil
		}
		var rs []Record
		if err := json.Unmarshal(data, &rs); err != nil {
			return err
		}
		p.records = append(p.records, rs...)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read ledgers of %s: %w", p.key.Tenant, err)
	}
	slices.SortStableFunc(p.records, func(a, b Record) int { return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.At, b.At)) })
	return nil
}

// test returns the rollout's test, as far as it has come.
func (p *replay) test() *canary.Test { return p.fold.Tests[p.key] }

// until runs the records that were made when the fold stood before position.
func (p *replay) until(position uint64) error {
	for len(p.records) > 0 && p.records[0].Position < position {
		r := p.records[0]
		p.records = p.records[1:]
		if r.command() {
			if p.command != nil && r.ID == p.key.ID {
				r = p.command(r)
			}
			p.fold.apply(r)
		} else if r.Type == TypeVerdict && r.ID == p.key.ID && p.verdict != nil && p.test() != nil {
			if err := p.verdict(r); err != nil {
				return err
			}
		} else if r.Type == TypeSLOState && p.state != nil {
			if err := p.state(r); err != nil {
				return err
			}
		} else if r.Type == TypeAftermath && r.ID == p.key.ID && p.aftermath != nil {
			if err := p.aftermath(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *replay) run(ctx context.Context) error {
	err := p.store.Replay(ctx, p.tenant, p.app, func(b *batch.Batch, lo, hi int) error {
		if err := p.until(b.Position(lo)); err != nil {
			return err
		}
		se, admission := p.fold.Table.Admit(session.Key{Tenant: p.key.Tenant, App: p.app, ID: b.Text(batch.Session, lo)}, b.Seq(lo), b.Received(lo))
		if admission == session.Duplicate {
			return fmt.Errorf("position %d: session %s, seq %d is in the segments twice", b.Position(lo), se.Key.ID, b.Seq(lo))
		}
		if p.time != nil {
			p.time(b.Received(lo))
		}
		p.fold.beacon(se, admission == session.First, b, lo, hi)
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay segments: %w", err)
	}
	return p.until(math.MaxUint64)
}
