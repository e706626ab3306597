package analysis

import (
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/cell"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/store/batch"
)

// fold is the state that rows are folded into: a pure function of the control
// commands and the rows, in their order. The live engine and the backtest run
// the same code over it, which is why their verdicts are equal.
type fold struct {
	Table *session.Table
	Tests map[rolloutKey]*canary.Test
	Cells *cell.Store
	Ended map[rolloutKey]end
}

func newFold() *fold {
	return &fold{Table: session.NewTable(), Tests: map[rolloutKey]*canary.Test{}, Cells: cell.NewStore(), Ended: map[rolloutKey]end{}}
}

// beacon folds the rows [lo, hi) of one beacon that is no duplicate.
func (f *fold) beacon(s *session.Session, first bool, b *batch.Batch, lo, hi int) {
	tests := f.of(s.Key.Tenant, s.Key.App)
	for _, t := range tests {
		t.Advance(b.Received(lo), f.Table)
		if first {
			t.Enter(s, b, lo)
		}
	}
	failed := f.Table.Fold(s, b, lo, hi)
	lost := f.Table.Shed(s, b, lo, hi)
	for _, e := range s.Enrolled {
		t := f.Tests[rolloutKey{s.Key.Tenant, e.Rollout}]
		if t == nil {
			continue
		}
		for _, m := range failed {
			t.Fail(e, m)
		}
		if lost {
			t.Lose(e)
		}
	}
	f.Cells.Add(s, b, lo, hi, first, failed)
}

// of returns the tests of an app.
func (f *fold) of(tenant, app string) []*canary.Test {
	var ts []*canary.Test
	for k, t := range f.Tests {
		if k.Tenant == tenant && t.Rollout.App == app {
			ts = append(ts, t)
		}
	}
	return ts
}
