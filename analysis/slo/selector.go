package slo

import (
	"math"
	"slices"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Selector says which events it is about. All that is given must hold.
type Selector struct {
	Kind  string   `json:"kind,omitempty"`  // of the event; empty: any
	Names []string `json:"names,omitempty"` // one of them; empty: any
	// Where has for each column the texts of which one must be there, Not those of
	// which none may be. attr.KEY is an attribute of the event.
	Where map[string][]string `json:"where,omitempty"`
	Not   map[string][]string `json:"not,omitempty"`
	Fails string              `json:"fails,omitempty"` // the guardrail that the event fails, such as error_free
	Value *Threshold          `json:"value,omitempty"` // what its value must be; an event without one does not match
}

// Threshold compares a value: VALUE op limit.
type Threshold struct {
	Op    string  `json:"op"` // gt, gte, lt or lte
	Limit float64 `json:"limit"`
}

// Holds reports whether a value is on the right side.
func (t *Threshold) Holds(v float64) bool {
	switch t.Op {
	case "gt":
		return v > t.Limit
	case "gte":
		return v >= t.Limit
	case "lt":
		return v < t.Limit
	}
	return v <= t.Limit
}

var columns = map[string]batch.Column{"platform": batch.Platform, "os": batch.OS, "browser": batch.Browser, "device": batch.Device, "network": batch.Network,
	"country": batch.Country, "page": batch.Page, "env": batch.Env, "sdk": batch.SDK, "release": batch.Release, "unit": batch.Unit}

// Columns returns the names of the columns that events are filtered and grouped
// by, sorted.
func Columns() []string {
	names := make([]string, 0, len(columns))
	for n := range columns {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// AttrPrefix begins the name of an attribute where a column is named.
const AttrPrefix = "attr."

// matcher is a selector made ready for rows.
type matcher struct {
	kind       event.Kind // NoKind: any
	names      []string
	where, not []filter
	fails      session.Metric
	failing    bool
	value      *Threshold
}

type filter struct {
	column batch.Column
	attr   string // in place of a column
	texts  []string
}

func (s *Selector) matcher() *matcher {
	m := &matcher{names: s.Names, value: s.Value}
	if s.Kind != "" {
		m.kind, _ = event.ParseKind([]byte(s.Kind))
	}
	m.fails, m.failing = session.ParseMetric(s.Fails)
	filters := func(of map[string][]string) (all []filter) {
		for name, texts := range of {
			f := filter{column: columns[name], texts: texts}
			if len(name) > len(AttrPrefix) && name[:len(AttrPrefix)] == AttrPrefix {
				f.attr = name[len(AttrPrefix):]
			}
			all = append(all, f)
		}
		return all
	}
	m.where, m.not = filters(s.Where), filters(s.Not)
	return m
}

func (f *filter) holds(b *batch.Batch, row int) bool {
	if f.attr == "" {
		return slices.Contains(f.texts, b.Text(f.column, row))
	}
	return slices.ContainsFunc(f.texts, func(t string) bool { return b.HasAttr(row, f.attr, t) })
}

func (m *matcher) matches(b *batch.Batch, row int) bool {
	if m.kind != event.NoKind && b.Kind(row) != m.kind {
		return false
	}
	if len(m.names) > 0 && !slices.Contains(m.names, b.Text(batch.Name, row)) {
		return false
	}
	for i := range m.where {
		if !m.where[i].holds(b, row) {
			return false
		}
	}
	for i := range m.not {
		if m.not[i].holds(b, row) {
			return false
		}
	}
	if m.failing {
		if failed, ok := session.Failure(b, row); !ok || failed != m.fails {
			return false
		}
	}
	if m.value != nil {
		v, ok := b.Value(row)
		return ok && !math.IsNaN(v) && m.value.Holds(v)
	}
	return true
}
