package alert

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Book is all incidents, silences and messages of a server. Its methods may be
// called at the same time.
type Book struct {
	policy  Policy
	targets []Target

	mu        sync.Mutex
	incidents map[Key]*Incident
	silences  []*Silence
	outbox    []Notification
	groups    map[string]time.Time // last message, by target and stream
	sequence  uint64
	told      time.Time // of the last Tell
}

// New returns an empty book. The policy passes [Policy.Check].
func New(p Policy, targets []Target) *Book {
	return &Book{policy: p.withDefaults(), targets: targets, incidents: map[Key]*Incident{}, groups: map[string]time.Time{}}
}

// snapshot is what a book is kept as.
type snapshot struct {
	Version   int                  `json:"v"` // 1
	Incidents []*Incident          `json:"incidents"`
	Silences  []*Silence           `json:"silences"`
	Outbox    []Notification       `json:"outbox"`
	Groups    map[string]time.Time `json:"groups"`
	Sequence  uint64               `json:"sequence"`
	Told      time.Time            `json:"told"`
}

// Snapshot returns the book's state as JSON, for [Book.Restore].
func (b *Book) Snapshot() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, err := json.Marshal(snapshot{1, b.sorted(), b.silences, b.outbox, b.groups, b.sequence, b.told})
	if err != nil {
		return nil, fmt.Errorf("write alerts: %w", err)
	}
	return data, nil
}

// Restore makes the book what it was at a snapshot. After an error it is as it was.
func (b *Book) Restore(data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read alerts: %w", err)
	}
	if s.Version != 1 {
		return fmt.Errorf("read alerts: v: %d: want 1", s.Version)
	}
	incidents := map[Key]*Incident{}
	for i, in := range s.Incidents {
		if in == nil || incidents[in.Key] != nil {
			return fmt.Errorf("read alerts: incidents[%d]: want one for each tenant, slo and cohort", i)
		}
		incidents[in.Key] = in
	}
	for i, si := range s.Silences {
		if si == nil {
			return fmt.Errorf("read alerts: silences[%d]: null: want a silence", i)
		}
		for j := range si.Matchers {
			if err := si.Matchers[j].compile(); err != nil {
				return fmt.Errorf("read alerts: silences[%d]: %w", i, err)
			}
		}
	}
	if s.Groups == nil {
		s.Groups = map[string]time.Time{}
	}
	b.incidents, b.silences, b.outbox, b.groups, b.sequence, b.told = incidents, s.Silences, s.Outbox, s.Groups, s.Sequence, s.Told
	return nil
}

// View is an incident as people are shown it.
type View struct {
	Incident
	State    string `json:"state"` // pending, firing or resolved
	Silenced string `json:"silenced_by,omitempty"`
}

// Incidents returns a tenant's incidents, those that ended within 15 minutes among
// them, by objective and cohort.
func (b *Book) Incidents(tenant string, at time.Time) []View {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []View{}
	for _, in := range b.sorted() {
		if in.Tenant != tenant || in.State() == "resolved" && in.Number == 0 {
			continue
		}
		v := View{Incident: *in, State: in.State()}
		v.Alerts = slices.Clone(in.Alerts)
		v.Told, v.Ended = nil, nil
		if s := b.silenced(in, at); s != nil {
			v.Silenced = s.ID
		}
		all = append(all, v)
	}
	return all
}

// Waiting returns what is in the outbox for a target, the oldest first in each
// stream.
func (b *Book) Waiting(tenant, target string) []Notification {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Notification
	for _, n := range b.outbox {
		if n.Tenant == tenant && n.Target == target {
			all = append(all, n)
		}
	}
	return all
}

// Overtaken reports whether a newer message of the same stream waits: it says all
// that there still is to say.
func (b *Book) Overtaken(tenant, target, id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.outbox, func(n Notification) bool { return n.ID == id })
	if i < 0 {
		return true
	}
	return slices.ContainsFunc(b.outbox[i+1:], func(n Notification) bool {
		return n.Tenant == tenant && n.Target == target && n.Stream == b.outbox[i].Stream && covers(n.Items, b.outbox[i].Items)
	})
}

// covers reports whether newer items speak of all the incidents that older ones do.
func covers(newer, older []Item) bool {
	for _, o := range older {
		if !slices.ContainsFunc(newer, func(n Item) bool { return n.Key == o.Key }) {
			return false
		}
	}
	return true
}

// Missed takes a message out of the outbox that nobody took in its time. What it told
// of and is still so is told again: an incident that is open and that nobody heard of
// is the worst of all.
func (b *Book) Missed(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.outbox, func(n Notification) bool { return n.ID == id })
	if i < 0 {
		return
	}
	n := b.outbox[i]
	b.outbox = slices.Delete(b.outbox, i, i+1)
	for _, it := range n.Items {
		in := b.incidents[it.Key]
		if it.Event == Resolved || in == nil {
			continue
		}
		if told, ok := in.Told[n.Target]; ok && told.Number == it.Number && told.Severity == it.Severity {
			delete(in.Told, n.Target)
		}
	}
}

// Done takes a message out of the outbox.
func (b *Book) Done(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outbox = slices.DeleteFunc(b.outbox, func(n Notification) bool { return n.ID == id })
}

// Told returns when Tell was called last: a watchdog that is alive when nothing
// evaluates would be no watchdog.
func (b *Book) Told() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}
