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

// Store holds cells. It is not safe for concurrent use. Its exported field is
// kept in checkpoints.
type Store struct {
	Cells map[Key]*Cell
	near  map[cohort]*near
}

// cohort is a key without its metric.
type cohort struct {
	Tenant, App, Tenancy, Release, Device string
	Minute                                int64
}

// near leads to the cells of one cohort by a short way: all events of a beacon
// are of one cohort.
type near struct {
	guardrails [session.Metrics]*Cell
	vitals     map[string]*Cell // by the vital's name
}

// maxNear bounds the short ways; they are made anew from the cells.
const maxNear = 4096

func (s *Store) cohort(c cohort) *near {
	n := s.near[c]
	if n == nil {
		if s.near == nil || len(s.near) == maxNear {
			s.near = make(map[cohort]*near, 64)
		}
		n = &near{vitals: map[string]*Cell{}}
		s.near[c] = n
	}
	return n
}

func (c cohort) key(metric string) Key {
	return Key{Tenant: c.Tenant, App: c.App, Tenancy: c.Tenancy, Release: c.Release, Device: c.Device, Metric: metric, Minute: c.Minute}
}

func (s *Store) guardrail(c cohort, n *near, m session.Metric) *Cell {
	if n.guardrails[m] == nil {
		n.guardrails[m] = s.at(c.key(m.String()))
	}
	return n.guardrails[m]
}

func (s *Store) vital(c cohort, n *near, name string) *Cell {
	v := n.vitals[name]
	if v == nil {
		v = s.at(c.key("vital:" + name))
		n.vitals[name] = v
	}
	return v
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{Cells: map[Key]*Cell{}} }

// Retention is how long a cell is kept, in ms of session start.
const Retention = 48 * 3600_000

// Forget drops the cells of sessions that began before now-Retention.
func (s *Store) Forget(now int64) {
	for k := range s.Cells {
		if k.Minute < now-Retention {
			delete(s.Cells, k)
			s.near = nil // may lead there
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
	c := cohort{Tenant: se.Key.Tenant, App: se.Key.App, Tenancy: b.Text(batch.Tenancy, lo), Release: b.Text(batch.Release, lo),
		Device: b.Text(batch.Device, lo), Minute: se.Entered - se.Entered%60_000}
	n := s.cohort(c)
	if first {
		for m := range session.Metrics {
			s.guardrail(c, n, m).Exposed++
		}
	}
	for _, m := range failed {
		s.guardrail(c, n, m).Failed++
	}
	for r := lo; r < hi; r++ {
		v, ok := b.Value(r)
		if !ok || b.Kind(r) != event.Vital {
			continue
		}
		to := s.vital(c, n, b.Text(batch.Name, r))
		if to.Values == nil {
			to.Values = sketch.NewHistogram()
		}
		// A vital is finite and not negative: the edge refused all others.
		if err := to.Values.Add(v); err != nil {
			panic("BUG: " + err.Error())
		}
		to.Exposed++
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
