package analysis

import (
	"fmt"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
)

// starts sends minutes of sessions, of which every n-th starts on the canary (0:
// none), and lets the engine look at each minute.
func (h *house) starts(minutes, n int) {
	h.t.Helper()
	for range minutes {
		base := h.now.Load()
		var all []event.Beacon
		for i := range 60 {
			at := base + int64(i)*1000
			release, arm := "1", "baseline"
			if n > 0 && i%n == 0 {
				release, arm = "2", "canary"
			}
			all = append(all, event.Beacon{SDK: "a/1", App: "shop", Release: event.Release(release), Session: fmt.Sprint("s", at), Received: at, Sent: at,
				Arms: []event.Arm{{Change: "release/2", Variant: arm}}, Events: []event.One{{Kind: event.View, Name: "/", Time: at}}})
		}
		h.minute(all, base+60_000)
	}
}

// TestRollbackIneffective has a rollback that is delivered and changes nothing, then
// takes effect, through a restart from the checkpoint and one from the logs alone, and wants the
// segments to say the same to the byte.
func TestRollbackIneffective(t *testing.T) {
	h := newHouse(t)
	h.now.Store(1_764_000_000_000)
	r := canary.Rollout{ID: "r", App: "shop", Change: "release/2", Canary: "2", Baseline: "1", Stages: []canary.Stage{{Weight: 0.2, Deadline: canary.Duration(40 * time.Hour)}}}
	if _, err := h.e.Create(t.Context(), owner(t), r); err != nil {
		t.Fatal(err)
	}
	h.starts(15, 5)
	if _, err := h.e.Override(t.Context(), owner(t), "r", canary.Force{Decision: "rollback", Why: "a test", Who: "ann"}); err != nil {
		t.Fatal(err)
	}
	s := h.until("rollback", func(s Status) bool { return s.Verdict.Decision == verdict.Rollback })
	if s.Aftermath != nil {
		t.Errorf("not delivered, and %+v", s.Aftermath)
	}
	h.starts(3, 5)
	for _, outcome := range []string{Escalated, "expired", delivered, delivered} {
		if err := h.e.RecordDelivery(t.Context(), "t", "r", Delivery{Target: "hook", Message: "m", Outcome: outcome, Rollback: s.Verdict.Number}); err != nil {
			t.Fatal(err)
		}
	}
	h.starts(9, 5)
	if s := h.until("an aftermath", func(s Status) bool { return s.Aftermath != nil }); s.Aftermath.Ineffective || s.Aftermath.Before.All != 18*60 || s.Aftermath.Before.Canary != 18*12 {
		t.Errorf("%+v", s.Aftermath)
	}
	h.stop()
	h.start()
	h.starts(10, 5)
	ineffective := func(s Status) bool { return s.Aftermath != nil && s.Aftermath.Ineffective }
	h.until("ineffective", ineffective)
	if got := h.e.Ineffective(); len(got) != 1 || got[0].Name != verdict.RollbackIneffective || got[0].Rollout != "r" || got[0].Release != "2" || got[0].Severity != verdict.SeverityPage {
		t.Errorf("%+v", got)
	}
	h.stop()
	h.start()
	h.until("ineffective after a restart", ineffective)
	h.starts(12, 0)
	s = h.until("effective", func(s Status) bool { return s.Aftermath != nil && !s.Aftermath.Ineffective })
	if got := h.e.Ineffective(); len(got) > 0 || s.Aftermath.Number != 2 {
		t.Errorf("%+v %+v", got, s.Aftermath)
	}
	h.stop()
	replayed, err := BacktestAftermath(t.Context(), h.segments, "t", "r")
	if err != nil || len(replayed) != 2 {
		t.Fatalf("%d recorded, %v", len(replayed), err)
	}
	for _, r := range replayed {
		if !r.Equal {
			t.Errorf("differs:\n%s\n%s", asJSON(t, r.Given), asJSON(t, r.Again))
		}
	}
	if past, err := Explain(t.Context(), h.segments, "t", "r"); err != nil || past.Aftermath == nil || past.Aftermath.Ineffective {
		t.Errorf("%v %+v", err, past.Aftermath)
	}
}
