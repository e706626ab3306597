package alert

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Silence keeps incidents from being told from Start until End. It changes
// neither a verdict nor an incident: what is still so at its end is told then.
type Silence struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Matchers []Matcher `json:"matchers"` // all of which must hold
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Who      string    `json:"who"`
	Why      string    `json:"why"`
	Made     time.Time `json:"made"`
	EndedBy  string    `json:"ended_by,omitempty"` // who ended it before its time
}

// Matcher compares one label.
type Matcher struct {
	Label string `json:"label"` // one of [Labels]
	Op    string `json:"op"`    // =, !=, =~ or !~; the latter two with an RE2 expression for the whole value
	Value string `json:"value"`

	re *regexp.Regexp
}

// Labels are what a silence may go by.
var Labels = []string{"slo", "cohort", "service", "app", "severity", "release", "condition", "rollout"}

// ErrInvalid is what errors about a silence are that its maker can mend.
var ErrInvalid = errors.New("invalid silence")

// maxSilence is the longest that one silence lasts: one that is forgotten must end.
const maxSilence = 31 * 24 * time.Hour

// keepSilences is how long one is listed after its end.
const keepSilences = 30 * 24 * time.Hour

// maxSilences bounds those of a tenant that have not ended.
const maxSilences = 1000

// ParseMatcher reads LABEL OP VALUE, such as slo=checkout or cohort=~"2\.4\..*".
func ParseMatcher(s string) (Matcher, error) {
	i := strings.IndexAny(s, "=!")
	if i > 0 {
		for _, op := range []string{"=~", "!~", "!=", "="} {
			if value, ok := strings.CutPrefix(s[i:], op); ok {
				m := Matcher{Label: s[:i], Op: op, Value: strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)}
				return m, m.compile()
			}
		}
	}
	return Matcher{}, fmt.Errorf("matcher: %q: want LABEL=VALUE, or with !=, =~ or !~: %w", s, ErrInvalid)
}

func (m *Matcher) compile() error {
	if !slices.Contains(Labels, m.Label) {
		return fmt.Errorf("matchers: label %q: want one of %s: %w", m.Label, strings.Join(Labels, ", "), ErrInvalid)
	}
	if len(m.Value) > 256 {
		return fmt.Errorf("matchers: %s: a value of %d bytes: want at most 256: %w", m.Label, len(m.Value), ErrInvalid)
	}
	switch m.Op {
	case "=", "!=":
		return nil
	case "=~", "!~":
		re, err := regexp.Compile("^(?:" + m.Value + ")$")
		if err != nil {
			return fmt.Errorf("matchers: %s: %q: want an RE2 expression: %w", m.Label, m.Value, ErrInvalid)
		}
		m.re = re
		return nil
	}
	return fmt.Errorf("matchers: %s: op %q: want =, !=, =~ or !~: %w", m.Label, m.Op, ErrInvalid)
}

func (m *Matcher) matches(v string) bool {
	switch m.Op {
	case "=":
		return v == m.Value
	case "!=":
		return v != m.Value
	case "=~":
		return m.re.MatchString(v)
	}
	return !m.re.MatchString(v)
}

// check reports what is wrong with a silence that is to be made.
func (s *Silence) check(now time.Time) error {
	wrong := func(format string, args ...any) error { return fmt.Errorf(format+": %w", append(args, ErrInvalid)...) }
	if len(s.Matchers) == 0 || len(s.Matchers) > 20 {
		return wrong("matchers: %d: want 1 to 20", len(s.Matchers))
	}
	selective := false
	for i := range s.Matchers {
		if err := s.Matchers[i].compile(); err != nil {
			return err
		}
		selective = selective || !s.Matchers[i].matches("")
	}
	switch {
	case !selective:
		return wrong("matchers: all of them hold for an empty label: want one that does not, or everything would be silenced")
	case !s.End.After(s.Start):
		return wrong("end: %s: want a time after the start, %s", s.End.Format(time.RFC3339), s.Start.Format(time.RFC3339))
	case !s.End.After(now):
		return wrong("end: %s: want a time to come", s.End.Format(time.RFC3339))
	case s.End.Sub(s.Start) > maxSilence:
		return wrong("end: %v after the start: want at most %v", s.End.Sub(s.Start), maxSilence)
	case s.Who == "" || len(s.Who) > 128:
		return wrong("who: %d bytes: want 1 to 128", len(s.Who))
	case strings.TrimSpace(s.Why) == "" || len(s.Why) > 1024:
		return wrong("why: %d bytes: want a reason of 1 to 1024", len(s.Why))
	}
	return nil
}

// Active reports whether the silence holds at a time.
func (s *Silence) Active(at time.Time) bool { return !at.Before(s.Start) && at.Before(s.End) }

// covers reports whether the silence is about an incident of a severity.
func (s *Silence) covers(in *Incident) bool {
	if s.Tenant != in.Tenant {
		return false
	}
	for i := range s.Matchers {
		m := &s.Matchers[i]
		v := map[string]string{"slo": in.SLO, "cohort": in.Cohort, "service": in.Service, "app": in.App, "severity": in.Severity,
			"release": in.Release, "condition": in.Condition, "rollout": in.Rollout}[m.Label]
		if !m.matches(v) {
			return false
		}
	}
	return true
}

// silenced returns the silence that keeps an incident from being told, or nil.
func (b *Book) silenced(in *Incident, at time.Time) *Silence {
	for _, s := range b.silences {
		if s.Active(at) && s.covers(in) {
			return s
		}
	}
	return nil
}

// Silence makes a silence and returns it with its id. Errors are [ErrInvalid].
func (b *Book) Silence(s Silence, now time.Time) (Silence, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Start.IsZero() {
		s.Start = now
	}
	s.Start, s.End, s.Made = s.Start.UTC(), s.End.UTC(), now.UTC()
	if err := s.check(now); err != nil {
		return Silence{}, err
	}
	live := 0
	for _, o := range b.silences {
		if o.Tenant == s.Tenant && o.End.After(now) {
			live++
		}
	}
	if live >= maxSilences {
		return Silence{}, fmt.Errorf("silences: %d that have not ended: want at most %d: %w", live, maxSilences, ErrInvalid)
	}
	b.sequence++
	s.ID = digest("silence", s.Tenant, b.sequence, now)
	b.silences = append(b.silences, &s)
	return s, nil
}

// Unsilence ends a silence now; ok is false where the tenant has no such one that
// has not ended.
func (b *Book) Unsilence(tenant, id, who string, now time.Time) (_ Silence, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.silences {
		if s.Tenant == tenant && s.ID == id && s.End.After(now) {
			s.End, s.EndedBy = now.UTC(), who
			return *s, true
		}
	}
	return Silence{}, false
}

// Silences returns a tenant's silences, those that ended within 30 days among
// them, the oldest first.
func (b *Book) Silences(tenant string) []Silence {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []Silence{}
	for _, s := range b.silences {
		if s.Tenant == tenant {
			all = append(all, *s)
		}
	}
	return all
}
