package analysis

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/store/segment"
)

// house is an engine over a real journal and segments, whose time is moved by
// hand.
type house struct {
	t        *testing.T
	dir      string
	events   *journal.Log
	control  *journal.Log
	segments *segment.Store
	policies Policies
	slos     Objectives
	now      atomic.Int64 // Unix ms
	options  func(*Options)
	e        *Engine
	stop     func()
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	h := &house{t: t, dir: t.TempDir(), policies: Policies{}}
	h.now.Store(1_764_000_000_000)
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(h.dir, "journal"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	if h.events, err = j.Log(ctx, "events", journal.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	if h.control, err = j.Log(ctx, "control", journal.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	if h.segments, err = segment.Open(filepath.Join(h.dir, "segments")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.stop() })
	h.start()
	return h
}

// open opens the engine, which does not follow the journal yet.
func (h *house) open() {
	h.t.Helper()
	var err error
	o := Options{Events: h.events, Control: h.control, Segments: h.segments, Checkpoint: filepath.Join(h.dir, "checkpoint"), Every: 5 * time.Millisecond,
		SealAfter: time.Hour, Policies: h.policies, Objectives: h.slos, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.UnixMilli(h.now.Load()) }}
	if h.options != nil {
		h.options(&o)
	}
	if h.e, err = Open(h.t.Context(), o); err != nil {
		h.t.Fatal(err)
	}
}

// start opens the engine and runs it.
func (h *house) start() {
	h.t.Helper()
	h.open()
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.e.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		h.stop = func() {}
	}
	for i := 0; !h.e.Ready(); i++ {
		if i == 1000 {
			h.t.Fatal("the engine does not get ready")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// until waits for something of a status.
func (h *house) until(what string, ok func(Status) bool) Status {
	h.t.Helper()
	for range 1000 {
		s, err := h.e.Status(owner(h.t), "r")
		if err != nil {
			h.t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	s, _ := h.e.Status(owner(h.t), "r")
	h.t.Fatalf("never: %s; %+v", what, s)
	return s
}

// follow waits until all that was sent is folded.
func (h *house) follow() {
	h.t.Helper()
	_, last, err := h.events.Bounds(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for range 2000 {
		if position, _ := h.e.Gauges(); position >= last {
			return
		}
		time.Sleep(time.Millisecond)
	}
	h.t.Fatal("the engine does not follow")
}

// minute sends what came up to a time, Unix ms, and lets the engine look at it.
func (h *house) minute(all []event.Beacon, to int64) {
	h.t.Helper()
	h.send(all)
	h.follow()
	h.now.Store(to)
	time.Sleep(12 * time.Millisecond) // two looks
}

// again wants the verdicts on the rollout, at least so many, to follow from the
// segments to the byte.
func (h *house) again(least int) []Replayed {
	h.t.Helper()
	replayed, err := Backtest(h.t.Context(), h.segments, "t", "r")
	if err != nil || len(replayed) < least {
		h.t.Fatalf("%d verdicts, want %d or more: %v", len(replayed), least, err)
	}
	for _, r := range replayed {
		if !r.Equal {
			h.t.Errorf("verdict %d differs:\n%s\n%s", r.Given.Number, asJSON(h.t, r.Given), asJSON(h.t, r.Again))
		}
	}
	return replayed
}

func (h *house) send(all []event.Beacon) {
	h.t.Helper()
	for len(all) > 0 {
		n := min(50, len(all))
		var g batch.Group
		for i := range n {
			g.Add(owner(h.t), &all[i])
		}
		if _, err := h.events.Append(h.t.Context(), g.Seal()); err != nil {
			h.t.Fatal(err)
		}
		all = all[n:]
	}
}

func TestPolicyByName(t *testing.T) {
	h := newHouse(t)
	p := canary.Policy{Name: "web", Revision: 4, Alpha: 0.03, Stages: []canary.Stage{{Weight: 0.1}}}
	if err := p.Normalize(); err != nil {
		t.Fatal(err)
	}
	h.policies.Put("t", p)
	r := canary.Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1", Policy: canary.Policy{Name: "web", Beta: 0.2}}
	s, err := h.e.Create(t.Context(), owner(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Rollout; got.Policy.Alpha != 0.03 || got.Policy.Beta != 0.2 || got.Policy.Revision != 4 || len(got.Stages) != 1 || s.Verdict.PolicyName != "web" || s.Verdict.Revision != 4 {
		t.Errorf("%+v", s)
	}
	for name, c := range map[string]canary.Policy{`policy.name: "absent": want one of web`: {Name: "absent"}, "policy.version: 3: want 4": {Name: "web", Revision: 3}, "policy.version: 3: want none": {Revision: 3}} {
		r.ID, r.Policy = "other", c
		if _, err := h.e.Create(t.Context(), owner(t), r); !errors.Is(err, canary.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("want %s: %v", name, err)
		}
	}
}

// TestShadowAndEnd tries another policy beside the active one, through a
// restart, and ends the rollout once its rollback has stood.
func TestShadowAndEnd(t *testing.T) {
	h := newHouse(t)
	r := busy(t)
	if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
		t.Fatal(err)
	}
	careless := canary.Policy{Alpha: 1e-40, Epoch: r.Policy.Epoch, SilenceAfter: r.Policy.SilenceAfter}
	if _, err := h.e.Shadow(t.Context(), owner(t), "r", &canary.Policy{Alpha: 7}); !errors.Is(err, canary.ErrInvalid) {
		t.Errorf("a shadow that cannot be: %v", err)
	}
	if _, err := h.e.Shadow(t.Context(), owner(t), "r", &careless); err != nil {
		t.Fatal(err)
	}
	all := beacons(1, 1500)
	h.send(all[:len(all)/2])
	h.until("sessions", func(s Status) bool { return s.Shadow != nil && s.Shadow.Sessions.Canary > 150 })
	h.stop()
	h.start()
	h.send(all[len(all)/2:])
	h.now.Store(all[len(all)-1].Received)
	s := h.until("rollback", func(s Status) bool {
		return s.Verdict.Decision == verdict.Rollback && s.Verdict.Position == uint64(len(all)/2+49)/50+uint64(len(all)-len(all)/2+49)/50
	})
	if s.Shadow == nil || s.Shadow.Decision != verdict.Hold || !s.Shadow.Shadow || s.Shadow.Rollout != "r" || s.Shadow.Policy == s.Verdict.Policy {
		t.Errorf("shadow: %+v", s.Shadow)
	}
	if n := len(h.e.List(owner(t))); n != 1 {
		t.Errorf("%d rollouts in the list", n)
	}
	if _, err := h.e.Status(owner(t), "r"+canary.ShadowSuffix); !errors.Is(err, ErrNotFound) {
		t.Errorf("a shadow by its name: %v", err)
	}
	for _, g := range h.e.Undelivered("t", "hook", time.Time{}, func(_, v *verdict.Verdict) string { return v.IssuedAt.String() }) {
		if g.Verdict.Shadow {
			t.Error("a shadow's verdict is to be told")
		}
	}
	ev, err := h.e.Evidence(owner(t), "r")
	if err != nil || len(ev.Shadows) == 0 || len(ev.History) == 0 || len(ev.Trace) == 0 || len(ev.Places) == 0 || len(ev.Parts) == 0 {
		t.Errorf("evidence: %v, %d shadows, %d verdicts, %d points", err, len(ev.Shadows), len(ev.History), len(ev.Trace))
	}

	h.now.Add((25 * time.Hour).Milliseconds())
	if s := h.until("end", func(s Status) bool { return s.Ended }); s.Verdict.Decision != verdict.Rollback || s.Rollout.ID != "r" {
		t.Errorf("ended: %+v", s)
	}
	if len(h.e.Live()) != 0 {
		t.Error("an ended rollout is live")
	}
	if _, err := h.e.Override(t.Context(), owner(t), "r", canary.Force{Decision: "promote", Why: "x"}); !errors.Is(err, ErrEnded) {
		t.Errorf("override after the end: %v", err)
	}
	if _, err := h.e.Create(t.Context(), owner(t), r); !errors.Is(err, ErrExists) {
		t.Errorf("the same id again: %v", err)
	}
	h.stop()
	h.start()
	h.until("end after a restart", func(s Status) bool { return s.Ended })
	h.stop()

	// What was recorded is found again, and can be explained and tried.
	h.again(2)
	past, err := Explain(t.Context(), h.segments, "t", "r")
	if err != nil || !past.Ended || past.Verdict.Decision != verdict.Rollback || len(past.Trace) == 0 || asJSON(t, past.Places) != asJSON(t, ev.Places) {
		t.Errorf("explained: %v %+v", err, past.Status)
	}
	d, err := Try(t.Context(), h.segments, "t", "r", careless)
	if err != nil {
		t.Fatal(err)
	}
	given, was := Final(d.Given, 0)
	if _, is := Final(d.Would, 0); !was || given.Decision != verdict.Rollback || is {
		t.Errorf("given %v, would %+v", given.Decision, d.Would)
	}
	if ids, err := Recorded(h.segments, "t"); err != nil || len(ids) != 1 || ids[0] != "r" {
		t.Errorf("recorded: %v %v", ids, err)
	}
}
