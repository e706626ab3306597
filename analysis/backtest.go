package analysis

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"

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
	var records []Record
	err := s.Ledgers(func(t, id string, data []byte) error {
		if t != tenantName || id != rollout {
			return nil
		}
		return json.Unmarshal(data, &records)
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger of %s: %w", rollout, err)
	}
	if len(records) == 0 || records[0].Rollout == nil {
		return nil, fmt.Errorf("tenant %q, rollout %q: %w", tenantName, rollout, ErrNotFound)
	}
	id, err := tenant.Stored(tenantName)
	if err != nil {
		return nil, err
	}
	app := records[0].Rollout.App
	f := newFold()
	k := rolloutKey{tenantName, rollout}
	var out []Replayed
	// until runs the records that were made when the fold stood before position.
	until := func(position uint64) error {
		for len(records) > 0 && records[0].Position < position {
			r := records[0]
			records = records[1:]
			if r.command() {
				apply(f.Tests, r)
				continue
			}
			if r.Type != TypeVerdict {
				continue
			}
			again := f.Tests[k].Decide(canary.Question{At: r.At, Position: r.Position, Behind: r.Behind})
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
		}
		return nil
	}
	err = s.Replay(ctx, id, app, func(b *batch.Batch, lo, hi int) error {
		if err := until(b.Position(lo)); err != nil {
			return err
		}
		se, admission := f.Table.Admit(session.Key{Tenant: tenantName, App: app, ID: b.Text(batch.Session, lo)}, b.Seq(lo), b.Received(lo))
		if admission == session.Duplicate {
			return fmt.Errorf("position %d: session %s, seq %d is in the segments twice", b.Position(lo), se.Key.ID, b.Seq(lo))
		}
		f.beacon(se, admission == session.First, b, lo, hi)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("replay segments: %w", err)
	}
	return out, until(math.MaxUint64)
}
