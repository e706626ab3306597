// Package cell keeps the sufficient statistics of session outcomes: for each
// cohort, metric and minute of session start how many sessions were exposed,
// how many failed, and a histogram of the values. Cells merge by addition, so
// any time range, set of releases or strata is a sum.
package cell

import (
	"cmp"
	"slices"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/sketch"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Key names a cell.
type Key struct {
	Tenant, App, Tenancy, Release, Device string
	Metric                                string // a guardrail's name, or vital:NAME for the values of a vital
	Minute                                int64  // Unix ms of the start of the minute in which the sessions began
}

// Cell is what is known of one key. The fields add.
type Cell struct {
	Exposed int64             // sessions
	Failed  int64             // sessions
	Values  *sketch.Histogram // of events; nil for a guardrail
}

// Store holds cells. It is not safe for concurrent use. Its field is kept in
// checkpoints.
type Store struct{ Cells map[Key]*Cell }

// NewStore returns an empty store.
func NewStore() *Store { return &Store{Cells: map[Key]*Cell{}} }

// Retention is how long a cell is kept, in ms of session start.
const Retention = 48 * 3600_000

// Forget drops the cells of sessions that began before now-Retention.
func (s *Store) Forget(now int64) {
	for k := range s.Cells {
		if k.Minute < now-Retention {
			delete(s.Cells, k)
		}
	}
}

func (s *Store) at(k Key) *Cell {
	c := s.Cells[k]
	if c == nil {
		c = &Cell{}
		s.Cells[k] = c
	}
	return c
}

// Add applies the rows [lo, hi) of one beacon: first says that the session
// began with it, failed lists what it failed just now.
func (s *Store) Add(se *session.Session, b *batch.Batch, lo, hi int, first bool, failed []session.Metric) {
	k := Key{Tenant: se.Key.Tenant, App: se.Key.App, Tenancy: b.Text(batch.Tenancy, lo), Release: b.Text(batch.Release, lo),
		Device: b.Text(batch.Device, lo), Minute: se.Entered - se.Entered%60_000}
	if first {
		for m := range session.Metrics {
			k.Metric = m.String()
			s.at(k).Exposed++
		}
	}
	for _, m := range failed {
		k.Metric = m.String()
		s.at(k).Failed++
	}
	for r := lo; r < hi; r++ {
		v, ok := b.Value(r)
		if !ok || b.Kind(r) != event.Vital {
			continue
		}
		k.Metric = "vital:" + b.Text(batch.Name, r)
		c := s.at(k)
		if c.Values == nil {
			c.Values = sketch.NewHistogram()
		}
		// A vital is finite and not negative: the edge refused all others.
		if err := c.Values.Add(v); err != nil {
			panic("BUG: " + err.Error())
		}
		c.Exposed++
	}
}

// Row is one cell with its key, for reading.
type Row struct {
	Key
	Cell
}

// Sum adds the cells of one tenant and app by release and metric over session
// starts in [from, to), in Unix ms, sorted by metric and release. Only
// production traffic is summed.
func (s *Store) Sum(tenant, app string, from, to int64) []Row {
	sums := map[Key]*Cell{}
	for k, c := range s.Cells {
		if k.Tenant != tenant || k.App != app || k.Minute < from || k.Minute >= to || k.Tenancy != event.Production.String() {
			continue
		}
		k.Device, k.Minute = "", 0
		sum := sums[k]
		if sum == nil {
			sum = &Cell{}
			sums[k] = sum
		}
		sum.Exposed += c.Exposed
		sum.Failed += c.Failed
		if c.Values != nil {
			if sum.Values == nil {
				sum.Values = sketch.NewHistogram()
			}
			sum.Values.Merge(c.Values)
		}
	}
	var rows []Row
	for k, c := range sums {
		rows = append(rows, Row{k, *c})
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Release, b.Release))
	})
	return rows
}
