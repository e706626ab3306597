package lab

import (
	"slices"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// beacons is the engine that takes beacons as the analysis does from the
// journal: rows of a batch, the table of sessions, then the test.
type beacons struct {
	batch *batch.Batch
	test  *canary.Test
	table *session.Table
	cell  []signal // first beacons of the cell that is open
	names names
	at    uint64
}

func (b *beacons) begin(r canary.Rollout) *canary.Test {
	b.test, b.table, b.at = canary.NewTest(labTenant, r, origin), session.NewTable(), 0
	b.cell = b.cell[:0]
	return b.test
}

func (b *beacons) open([]signal) {}

func (b *beacons) enter(v *visit) { b.cell = append(b.cell, signal{v.at, exposure, *v}) }

func (b *beacons) close(arrived []signal, end int64) {
	b.batch = newBatch()
	all := append(b.cell, arrived...)
	slices.SortStableFunc(all, func(x, y signal) int { return int(x.at - y.at) })
	for i := range all {
		b.fold(&all[i])
	}
	b.cell = b.cell[:0]
	b.test.Advance(end, b.table)
}

func (b *beacons) needsAll() bool { return true }

// fold takes one beacon, in the order of steps of package analysis.
func (b *beacons) fold(s *signal) {
	bc := b.names.beacon(s)
	b.at++
	lo := b.batch.Len()
	b.batch.Append(b.at, 0, &bc)
	state, admission := b.table.Admit(session.Key{Tenant: labTenant, App: "lab", ID: bc.Session}, bc.Seq, bc.Received)
	if admission == session.Duplicate {
		return
	}
	b.test.Advance(bc.Received, b.table)
	if admission == session.First {
		b.test.Enter(state, b.batch, lo)
	}
	for _, m := range b.table.Fold(state, b.batch, lo, b.batch.Len()) {
		for _, e := range state.Enrolled {
			b.test.Fail(e, m)
		}
	}
}

// failures returns the events of a later beacon: what failed, and how.
func failures(s *signal) []event.One {
	at := s.at
	if s.part == report {
		at = s.v.seen
	}
	events := []event.One{{Kind: event.View, Name: "/", Time: at}}
	vital := func(m session.Metric, name string, good, poor float64) {
		one := event.One{Kind: event.Vital, Name: name, Value: good, HasVal: true, Time: at}
		if s.v.has(m) {
			one.Value = poor
		}
		events = append(events, one)
	}
	vital(session.LCP, "LCP", 1800, 4200)
	vital(session.INP, "INP", 90, 420)
	vital(session.CLS, "CLS", 0.02, 0.3)
	if s.v.has(session.Errors) {
		events = append(events, event.One{Kind: event.Error, Name: "TypeError", Time: at})
	}
	if s.v.has(session.Requests) {
		events = append(events, event.One{Kind: event.NetFail, Name: "/api", Time: at})
	}
	return events
}
