package analysis

import (
	"cmp"
	"maps"
	"slices"

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

	apps map[app][]*canary.Test // the tests of each app; nil: to be made anew of Tests
}

// app names an app of a tenant.
type app struct{ tenant, name string }

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
		t.Observe(s, e, b, lo, hi)
		for _, m := range failed {
			t.Fail(e, m)
		}
		if lost {
			t.Lose(e)
		}
	}
	f.Cells.Add(s, b, lo, hi, first, failed)
}

// of returns the tests of an app, sorted by their rollouts.
func (f *fold) of(tenant, name string) []*canary.Test {
	if f.apps == nil {
		f.apps = map[app][]*canary.Test{}
		for _, k := range slices.SortedFunc(maps.Keys(f.Tests), func(a, b rolloutKey) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID)) }) {
			of := app{k.Tenant, f.Tests[k].Rollout.App}
			f.apps[of] = append(f.apps[of], f.Tests[k])
		}
	}
	return f.apps[app{tenant, name}]
}
