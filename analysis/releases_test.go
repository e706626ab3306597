package analysis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/event"
)

// visit is the first beacon of a session with a release.
func visit(h *house, session, release, arm string) event.Beacon {
	now := h.now.Load()
	bc := event.Beacon{SDK: "t/1", App: "shop", Release: event.Release(release), Session: session, Sent: now, Received: now, Events: []event.One{{Kind: event.View, Name: "/", Time: now}}}
	if arm != "" {
		bc.Arms = []event.Arm{{Change: arm, Variant: "canary"}}
	}
	return bc
}

// TestLeak has a release that is deployed and not released come in.
func TestLeak(t *testing.T) {
	h := newHouse(t)
	set := func(state string) error {
		_, err := h.e.SetRelease(t.Context(), owner(t), "ci", "shop", "2.4.1", state)
		return err
	}
	for _, state := range []string{ReleaseReleased, ReleaseWithdrawn} {
		if err := set(state); !errors.Is(err, ErrRelease) {
			t.Errorf("%s at first: %v", state, err)
		}
	}
	if err := set("gone"); !errors.Is(err, canary.ErrInvalid) {
		t.Errorf("a state that is none: %v", err)
	}
	if err := set(ReleaseDeployed); err != nil {
		t.Fatal(err)
	}
	if err := set(ReleaseDeployed); !errors.Is(err, ErrRelease) {
		t.Errorf("deployed twice: %v", err)
	}
	until := func(leaked int64) Release {
		t.Helper()
		var r Release
		for range 400 {
			if r = h.e.Releases(owner(t))[0]; r.Leaked == leaked {
				return r
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("%+v, want %d leaked", r, leaked)
		return r
	}
	h.send([]event.Beacon{visit(h, "a", "2.4.0", ""), visit(h, "b", "2.4.1", ""), visit(h, "c", "2.4.1", "")})
	if r := until(2); r.FirstLeak == nil || r.State != ReleaseDeployed || r.Who != "ci" {
		t.Errorf("%+v", r)
	}
	// After a start it is known still, and a rollout that gives it out makes it none.
	h.stop()
	h.start()
	until(2)
	r := canary.Rollout{ID: "r", App: "shop", Change: "release/2.4.1", Canary: "2.4.1", Baseline: "2.4.0", Stages: []canary.Stage{{Weight: 0.1}}}
	if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
		t.Fatal(err)
	}
	h.send([]event.Beacon{visit(h, "d", "2.4.1", "")})
	h.until("session d", func(s Status) bool { return s.Verdict.Sessions.Canary == 1 })
	until(2)
	if err := set(ReleaseReleased); err != nil {
		t.Fatal(err)
	}
	until(2) // what leaked stays told
}

// TestConfounded has two changes under way on one app.
func TestConfounded(t *testing.T) {
	h := newHouse(t)
	for _, id := range []string{"r", "other"} {
		r := canary.Rollout{ID: id, App: "shop", Change: "flag/" + id, Canary: "on", Baseline: "off", Stages: []canary.Stage{{Weight: 0.1}}}
		if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
			t.Fatal(err)
		}
	}
	h.send([]event.Beacon{visit(h, "a", "1", "flag/r")})
	h.until("one session", func(s Status) bool { return s.Verdict.Sessions.Canary == 1 && len(s.Verdict.Confounded) == 0 })
	h.send([]event.Beacon{visit(h, "b", "1", "flag/other")})
	s := h.until("the other", func(s Status) bool { return fmt.Sprint(s.Verdict.Confounded) == "[flag/other]" })
	if !strings.Contains(s.Verdict.Sentence, "Confounded with flag/other") {
		t.Error(s.Verdict.Sentence)
	}
}
