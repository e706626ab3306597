package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// Target is somebody who is told.
type Target struct {
	Tenant, Name string
	// Least is the severity from which incidents are told to it; empty: any.
	Least string
	// Holds says that the target keeps an incident open until it is told that it is
	// over: it is told of each by itself, at once, and always of the end.
	Holds bool
	// Level says that the target is told what is so again and again ([Book.Level])
	// and gets no messages. It holds, too.
	Level bool
}

// Event is what there is to tell of an incident.
type Event string

// The events.
const (
	Opened   Event = "opened"
	Changed  Event = "changed" // its severity
	Resolved Event = "resolved"
)

// Item is one event of one incident, as it was then.
type Item struct {
	Event Event `json:"event"`
	Key
	Dedup        string        `json:"dedup"`  // the same for all that is told of the objective and group: 32 hex digits
	Number       uint64        `json:"number"` // of the opening
	Severity     string        `json:"severity"`
	Was          string        `json:"was,omitempty"` // severity that was told before
	Service      string        `json:"service"`
	App          string        `json:"app"`
	Release      string        `json:"release,omitempty"`
	Since        time.Time     `json:"since"` // of this severity
	OpenedAt     time.Time     `json:"opened_at"`
	ResolvedAt   time.Time     `json:"resolved_at,omitzero"`
	At           time.Time     `json:"at"` // of the evaluation
	DataThrough  time.Time     `json:"data_through"`
	Completeness float64       `json:"completeness"`
	Data         verdict.Data  `json:"data"`
	Objective    float64       `json:"objective"` // target of the objective
	Remaining    verdict.Bound `json:"budget_remaining"`
	Sentence     string        `json:"sentence"`
	Alerts       []Alert       `json:"alerts"` // that fire, or fired last
}

// Notification is one message to one target: all that there is to tell of one
// objective, or, where the target holds, of one incident.
type Notification struct {
	ID     string    `json:"id"`
	Tenant string    `json:"tenant"`
	Target string    `json:"target"`
	SLO    string    `json:"slo"`
	Stream string    `json:"stream"` // messages of a stream are told in order, and the newest says all
	At     time.Time `json:"at"`
	Items  []Item    `json:"items"`
}

// Keep is how long a message is worth telling.
const Keep = 24 * time.Hour

// keepEnded is how long a target that is told what is so is told of an end.
const keepEnded = 15 * time.Minute

// Tell compares what targets were told with what is so at a time, puts the
// difference in the outbox and returns it.
func (b *Book) Tell(at time.Time) []Notification {
	at = at.UTC()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = at
	b.sweep(at)
	var all []Notification
	sorted := b.sorted()
	for _, t := range b.targets {
		groups := map[string][]*Incident{}
		var order []string
		for _, in := range sorted {
			if in.Tenant != t.Tenant {
				continue
			}
			stream := in.stream()
			if (t.Holds || t.Level) && in.Condition == "" {
				stream += "/" + in.Cohort
			}
			if groups[stream] == nil {
				order = append(order, stream)
			}
			groups[stream] = append(groups[stream], in)
		}
		for _, stream := range order {
			if n, ok := b.tell(t, stream, groups[stream], at); ok {
				all = append(all, n)
			}
		}
	}
	b.outbox = append(b.outbox, all...)
	return all
}

func (b *Book) sorted() []*Incident {
	return slices.SortedFunc(maps.Values(b.incidents), func(x, y *Incident) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.SLO, y.SLO), cmp.Compare(x.Cohort, y.Cohort), cmp.Compare(x.Condition, y.Condition), cmp.Compare(x.Rollout, y.Rollout))
	})
}

// step is one difference between what is so and what a target was told.
type step struct {
	in    *Incident
	event Event
	was   Told
}

// tell makes the message of one stream to one target, if there is one now.
func (b *Book) tell(t Target, stream string, incidents []*Incident, at time.Time) (Notification, bool) {
	var steps []step
	urgent := t.Holds || t.Level
	for _, in := range incidents {
		was, told := in.Told[t.Name]
		open := in.Severity != "" && b.routed(in, t)
		if told && (!open || was.Number != in.Number) {
			steps = append(steps, step{in, Resolved, was})
			told, was = false, Told{}
		}
		if !open || told && was.Severity == in.Severity || b.silenced(in, at) != nil {
			continue
		}
		e := Changed
		if !told {
			e = Opened
		}
		steps = append(steps, step{in, e, was})
		if in.Severity == verdict.SeverityPage {
			urgent = true
		}
	}
	key := t.Tenant + "/" + t.Name + "/" + stream
	if last, ok := b.groups[key]; len(steps) == 0 || ok && !urgent && at.Sub(last) < b.policy.Group {
		return Notification{}, false
	}
	var items []Item
	for _, s := range steps {
		if it, loud := s.take(t, at); loud {
			items = append(items, it)
		}
	}
	if len(items) == 0 || t.Level {
		return Notification{}, false
	}
	b.groups[key] = at
	b.sequence++
	return Notification{ID: "alert_" + digest(key, b.sequence, at), Tenant: t.Tenant, Target: t.Name, SLO: incidents[0].SLO, Stream: stream, At: at, Items: items}, true
}

// take notes that the target is told, and returns what; loud is false for an end
// of which nothing is to be told.
func (s step) take(t Target, at time.Time) (it Item, loud bool) {
	in := s.in
	it = in.item(s.event)
	if s.event != Opened {
		it.Was = s.was.Severity
		if t.Level {
			in.Ended = append(in.Ended, Ended{Target: t.Name, Severity: s.was.Severity, Since: s.was.Since, Until: at})
		}
	}
	if s.event == Resolved {
		delete(in.Told, t.Name)
		it.Number, it.Severity, it.OpenedAt, it.Since = s.was.Number, s.was.Severity, s.was.Opened, s.was.Since
		if it.ResolvedAt = in.Resolved; it.ResolvedAt.Before(s.was.Opened) {
			it.ResolvedAt = at // it goes on, and is none of this target's any more
		}
		return it, s.was.Loud || t.Holds || t.Level
	}
	if in.Told == nil {
		in.Told = map[string]Told{}
	}
	loud = slices.ContainsFunc(in.firing(), func(a Alert) bool { return a.WhenResolved })
	in.Told[t.Name] = Told{Number: in.Number, Severity: in.Severity, Since: at, Opened: in.Opened, Loud: loud || s.was.Loud}
	it.Since = at
	return it, true
}

// item shows an incident.
func (in *Incident) item(e Event) Item {
	alerts := in.firing()
	if len(alerts) == 0 { // those that fired last
		for _, a := range in.Alerts {
			if !a.Ended.IsZero() && !a.Ended.Before(in.Opened) {
				alerts = append(alerts, a)
			}
		}
	}
	return Item{Event: e, Key: in.Key, Dedup: in.dedup(), Number: in.Number, Severity: in.Severity, Service: in.Service, App: in.App, Release: in.Release,
		OpenedAt: in.Opened, At: in.At, DataThrough: in.DataThrough, Completeness: in.Completeness, Data: in.Data,
		Objective: in.Target, Remaining: in.Remaining, Sentence: in.Sentence, Alerts: alerts}
}

// routed reports whether a target is told of an open incident: it is named by an
// alert that fires, or one of those names none, or none that there is. An alert
// that nobody hears is the worst of all.
func (b *Book) routed(in *Incident, t Target) bool {
	if verdict.SeverityRank(in.Severity) < verdict.SeverityRank(t.Least) {
		return false
	}
	var names []string
	for _, a := range in.firing() {
		if len(a.Targets) == 0 {
			return true
		}
		names = append(names, a.Targets...)
	}
	if slices.Contains(names, t.Name) {
		return true
	}
	return !slices.ContainsFunc(b.targets, func(o Target) bool { return o.Tenant == in.Tenant && slices.Contains(names, o.Name) })
}

// sweep ends what is evaluated no more, and drops what is over.
func (b *Book) sweep(at time.Time) {
	known := map[[2]string]bool{}
	for _, t := range b.targets {
		known[[2]string{t.Tenant, t.Name}] = true
	}
	for k, in := range b.incidents {
		if at.Sub(in.At) >= b.policy.Forget {
			in.end(at)
		}
		for name := range in.Told {
			if !known[[2]string{in.Tenant, name}] {
				delete(in.Told, name) // a target that is configured no more
			}
		}
		in.Ended = slices.DeleteFunc(in.Ended, func(e Ended) bool { return at.Sub(e.Until) >= keepEnded })
		if in.State() == "resolved" && len(in.Told) == 0 && len(in.Ended) == 0 && at.Sub(in.Resolved) >= max(b.policy.Reopen, keepEnded) {
			delete(b.incidents, k)
		}
	}
	b.silences = slices.DeleteFunc(b.silences, func(s *Silence) bool { return at.Sub(s.End) >= keepSilences })
	b.outbox = slices.DeleteFunc(b.outbox, func(n Notification) bool { return !known[[2]string{n.Tenant, n.Target}] })
	for key, last := range b.groups {
		if at.Sub(last) >= max(b.policy.Group, time.Hour) {
			delete(b.groups, key)
		}
	}
}

// Level returns what a target is to be told is so: what is open, and what ended
// within 15 minutes.
func (b *Book) Level(tenant, target string) []Item {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Item
	for _, in := range b.sorted() {
		if in.Tenant != tenant {
			continue
		}
		for _, e := range in.Ended {
			// One that is open again is one and the same to the target: its end is not
			// to be told after its beginning.
			if told, ok := in.Told[target]; e.Target == target && !(ok && told.Severity == e.Severity) {
				it := in.item(Resolved)
				it.Severity, it.Since, it.OpenedAt, it.ResolvedAt = e.Severity, e.Since, e.Since, e.Until
				all = append(all, it)
			}
		}
		if told, ok := in.Told[target]; ok {
			it := in.item(Opened)
			it.Severity, it.Since, it.OpenedAt = told.Severity, told.Since, told.Opened
			all = append(all, it)
		}
	}
	return all
}

// digest returns 32 hex digits of the SHA-256 of its arguments.
func digest(parts ...any) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		if t, ok := p.(time.Time); ok {
			p = t.UnixNano()
		}
		texts[i] = fmt.Sprint(p)
	}
	sum := sha256.Sum256([]byte(strings.Join(texts, "\n")))
	return hex.EncodeToString(sum[:16])
}
