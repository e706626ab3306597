package alert

import (
	"errors"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

func TestParseMatcher(t *testing.T) {
	for text, want := range map[string]Matcher{
		`slo=checkout`: {Label: "slo", Op: "=", Value: "checkout"}, `cohort!="2.4"`: {Label: "cohort", Op: "!=", Value: "2.4"},
		`cohort=~"2\.4\..*"`: {Label: "cohort", Op: "=~", Value: `2\.4\..*`}, `app!~a|b`: {Label: "app", Op: "!~", Value: "a|b"}, `slo=a=b`: {Label: "slo", Op: "=", Value: "a=b"},
	} {
		m, err := ParseMatcher(text)
		m.re = nil
		if err != nil || m != want {
			t.Errorf("%s: %+v, %v", text, m, err)
		}
	}
	for text, want := range map[string]string{"": "LABEL=VALUE", "slo": "LABEL=VALUE", "=x": "LABEL=VALUE", "slo!x": "LABEL=VALUE", "tenant=x": "one of slo", "slo=~(": "RE2", "slo=" + strings.Repeat("x", 257): "at most 256"} {
		if _, err := ParseMatcher(text); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSilenceRefusals(t *testing.T) {
	good := Silence{Tenant: "shop", Matchers: []Matcher{{Label: "slo", Op: "=", Value: "x"}}, Start: minute(0), End: minute(60), Who: "ann", Why: "a load test"}
	b := New(Policy{}, nil)
	if s, err := b.Silence(good, minute(0)); err != nil || s.ID == "" {
		t.Fatalf("%+v, %v", s, err)
	}
	for want, change := range map[string]func(*Silence){
		"matchers: 0":           func(s *Silence) { s.Matchers = nil },
		"everything would be":   func(s *Silence) { s.Matchers = []Matcher{{Label: "slo", Op: "!=", Value: "x"}} },
		"want a time after":     func(s *Silence) { s.End = s.Start },
		"want a time to come":   func(s *Silence) { s.Start, s.End = minute(-20), minute(-10) },
		"want at most":          func(s *Silence) { s.End = s.Start.Add(32 * 24 * time.Hour) },
		"who: 0 bytes":          func(s *Silence) { s.Who = "" },
		"why: 1 bytes":          func(s *Silence) { s.Why = " " },
		`op "<": want =, !=, =`: func(s *Silence) { s.Matchers = []Matcher{{Label: "slo", Op: "<", Value: "x"}} },
	} {
		s := good
		change(&s)
		if _, err := b.Silence(s, minute(0)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if n := len(b.Silences("shop")); n != 1 {
		t.Errorf("%d silences, want 1", n)
	}
}

// TestSilence follows one incident through a silence.
func TestSilence(t *testing.T) {
	targets := []Target{{Tenant: "shop", Name: "pager", Holds: true}}
	silence := func(b *Book, from, to int) string {
		s, err := b.Silence(Silence{Tenant: "shop", Matchers: []Matcher{{Label: "slo", Op: "=", Value: "checkout"}}, Start: minute(from), End: minute(to), Who: "ann", Why: "a load test"}, minute(from))
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	events := func(ns []Notification) string {
		var all []string
		for _, n := range ns {
			all = append(all, string(n.Items[0].Event))
		}
		return strings.Join(all, " ")
	}
	page := func(at int, rate float64) *verdict.SLOState { return state(at, burn("page", "page", rate)) }
	policy := Policy{Evaluations: 1, KeepFiring: time.Nanosecond}

	b := New(policy, targets) // it outlasts the silence
	silence(b, 0, 10)
	b.Observe(page(1, 12))
	if got := events(b.Tell(minute(1))); got != "" {
		t.Errorf("told %q in a silence", got)
	}
	if v := b.Incidents("shop", minute(1)); len(v) != 1 || v[0].State != "firing" || v[0].Silenced == "" {
		t.Errorf("shown as %+v", v)
	}
	if got := events(b.Tell(minute(10))); got != "opened" {
		t.Errorf("told %q at the silence's end", got)
	}

	b = New(policy, targets) // it is over before the silence
	silence(b, 0, 10)
	b.Observe(page(1, 12))
	b.Observe(page(2, 0))
	if got := events(b.Tell(minute(11))); got != "" {
		t.Errorf("told %q of what came and went in a silence", got)
	}

	b = New(policy, targets) // it was told before, and ends in the silence
	b.Observe(page(1, 12))
	if got := events(b.Tell(minute(1))); got != "opened" {
		t.Errorf("told %q", got)
	}
	id := silence(b, 2, 10)
	b.Observe(page(3, 0))
	if got := events(b.Tell(minute(3))); got != "resolved" {
		t.Errorf("told %q: who was told of the beginning must be told of the end", got)
	}
	if _, ok := b.Unsilence("other", id, "eve", minute(4)); ok {
		t.Error("another tenant ended it")
	}
	if s, ok := b.Unsilence("shop", id, "bob", minute(4)); !ok || s.EndedBy != "bob" || s.Active(minute(4)) {
		t.Errorf("ended as %+v", s)
	}
	if _, ok := b.Unsilence("shop", id, "bob", minute(5)); ok {
		t.Error("it ended twice")
	}
	b.Tell(minute(0).Add(31 * 24 * time.Hour))
	if len(b.Silences("shop")) != 0 {
		t.Error("one that ended a month ago is kept")
	}
}
